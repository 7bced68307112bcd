/**
 * Where the records of a file begin and end, found in bytes, so that a file is cut without being read as text.
 *
 * @module
 */

/** Finds the ends of records in the bytes of a file, which come chunk by chunk. */
export interface Records {
  /**
   * Looks for the end of the record in which `from` lies.
   *
   * @param bytes A chunk
   * @param from Where to begin in it
   * @returns The index behind the record; -1 when it goes on in the next chunk
   */
  end(bytes: Uint8Array, from: number): number;
  /** Whether a byte may stand before the text of a record. */
  gap(byte: number): boolean;
}

const LINE = 10, QUOTE = 34, BACKSLASH = 92, COMMA = 44, LIST = 91;

const isSpace = (byte: number): boolean => byte === 32 || (byte >= 9 && byte <= 13);

/** A record a line. */
export function lines(): Records {
  return { end: (bytes, from) => bytes.indexOf(LINE, from) + 1 || -1, gap: isSpace };
}

/** A record a line, but for line ends in quoted fields. A quote opens a field only where one begins. */
export function delimitedLines(delimiter: string): Records {
  const comma = delimiter.charCodeAt(0);
  let quoted = false, begins = true;
  return {
    gap: (byte) => byte !== comma && isSpace(byte),
    end(bytes, from) {
      for (let i = from; i < bytes.length; i++) {
        const byte = bytes[i];
        if (byte === QUOTE) {
          // Two quotes in a quoted field close it and open it again.
          if (quoted) [quoted, begins] = [false, true];
          else if (begins) quoted = true;
        } else if (!quoted) {
          if (byte === LINE) {
            begins = true;
            return i + 1;
          }
          begins = byte === comma;
        }
      }
      return -1;
    },
  };
}

/** A record an object of a JSON list, with what stands between it and the one before. `depth`: lists that it begins in. */
export function listItems(depth: number): Records {
  let inText = false, escaped = false;
  return {
    gap: (byte) => byte === COMMA || byte === LIST || isSpace(byte),
    end(bytes, from) {
      for (let i = from; i < bytes.length; i++) {
        const byte = bytes[i];
        if (inText) {
          if (escaped) escaped = false;
          else if (byte === BACKSLASH) escaped = true;
          else if (byte === QUOTE) inText = false;
        } else if (byte === QUOTE) inText = true;
        // Both brackets of lists and objects differ from each other by bit 5 alone.
        else if ((byte | 32) === 123) depth++;
        else if ((byte | 32) === 125) {
          depth--;
          if (depth === 1) return i + 1;
        }
      }
      return -1;
    },
  };
}
