/**
 * Text of tokens as they come: no character is split, and no text that a stop string may begin with comes too early.
 *
 * @module
 */

/** What turns ids into text: a tokenizer. */
export interface IdDecoder {
  /** The text of ids. */
  decode(ids: ArrayLike<number>): string;
}

/** Text of tokens that come one after the other. */
export interface TokenText {
  /** The text that is certain after some further tokens; it may be empty. */
  add(ids: readonly number[]): string;
  /** The text that is left once no token follows. */
  end(): string;
  /** Whether a stop string was found. The text ends before it. */
  readonly stopped: boolean;
}

/** Tokens before a text that its first token is decoded with: a space may depend on them. */
const CONTEXT = 6;

/**
 * Decodes tokens as they come. Bytes of a character are held back until it is whole, and whatever may be the beginning of a stop
 * string until it cannot be one.
 *
 * @param tokenizer Turns ids into text
 * @param options `before`: ids before the text, such as the prompt; `stop`: strings that end the text
 * @returns The decoder
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { textDecoder } from "@firn/train/infer";
 * import { loadTokenizer } from "@firn/train/data";
 *
 * const tokenizer = await loadTokenizer("examples/models/sotu");
 * const decoder = textDecoder(tokenizer, { stop: ["union"] });
 * const pieces = tokenizer.encode("The state of the union is").map((id) => decoder.add([id]));
 * assertEquals([pieces.join("") + decoder.end(), decoder.stopped], ["The state of the ", true]);
 * ```
 */
export function textDecoder(
  tokenizer: IdDecoder,
  { before = [], stop = [] }: { readonly before?: readonly number[]; readonly stop?: readonly string[] } = {},
): TokenText {
  const ids = [...before].slice(-CONTEXT);
  // The text of ids from `from` to `read` is out.
  let from = 0, read = ids.length, held = "", stopped = false;
  const strings = stop.filter((text) => text !== "");
  /** The text of the ids since `read`; null while its last character is not whole. */
  function newText(last: boolean): string | null {
    const old = tokenizer.decode(ids.slice(from, read)), all = tokenizer.decode(ids.slice(from));
    if (!last && (all.length <= old.length || all.endsWith("\ufffd"))) return null;
    // The context may have ended within a character that is whole now.
    let same = 0;
    while (same < old.length && old[same] === all[same]) same++;
    [from, read] = [read, ids.length];
    return all.slice(same);
  }
  /** What of the held text is certain. */
  function certain(last: boolean): string {
    const found = strings.map((text) => held.indexOf(text)).filter((at) => at >= 0);
    if (found.length > 0) {
      stopped = true;
      return held.slice(0, Math.min(...found));
    }
    const open = last ? 0 : Math.max(0, ...strings.map((text) => overlap(held, text)));
    const text = held.slice(0, held.length - open);
    held = held.slice(text.length);
    return text;
  }
  return {
    add(news) {
      if (stopped) return "";
      for (const id of news) {
        ids.push(id);
        held += newText(false) ?? "";
      }
      return certain(false);
    },
    end() {
      if (stopped) return "";
      held += newText(true);
      return certain(true);
    },
    get stopped() {
      return stopped;
    },
  };
}

/** How many characters at the end of a text are the beginning of a string, which is longer. */
function overlap(text: string, string: string): number {
  let most = Math.min(text.length, string.length - 1);
  while (most > 0 && !text.endsWith(string.slice(0, most))) most--;
  return most;
}
