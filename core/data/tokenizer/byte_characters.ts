/**
 * The characters that stand for bytes in byte-level tokenizers.
 *
 * Source: GPT-2, `bytes_to_unicode`.
 *
 * @module
 */

/** The character of each byte. */
export const BYTE_CHARACTERS: readonly string[] = (() => {
  let next = 256;
  const printable = (byte: number): boolean => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++));
})();

const BYTES: ReadonlyMap<string, number> = new Map(
  BYTE_CHARACTERS.map((character, byte) => [character, byte]),
);

/** A character for each byte of a text in UTF-8. */
export function bytesAsCharacters(text: string): string {
  let result = "";
  if (isAscii(text)) {
    for (let i = 0; i < text.length; i++) result += BYTE_CHARACTERS[text.charCodeAt(i)];
    return result;
  }
  for (const byte of new TextEncoder().encode(text)) result += BYTE_CHARACTERS[byte];
  return result;
}

/** Whether each character is one byte. */
function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 127) return false;
  return true;
}

/** The bytes that a token stands for; a token with other characters stands for itself. */
export function charactersAsBytes(token: string): Iterable<number> {
  const bytes: number[] = [];
  for (const character of token) {
    const byte = BYTES.get(character);
    if (byte === undefined) return new TextEncoder().encode(token);
    bytes.push(byte);
  }
  return bytes;
}
