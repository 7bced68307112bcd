/**
 * Decoders of `tokenizer.json`: how tokens become text again.
 *
 * @module
 */

import { charactersAsBytes } from "./byte_characters.ts";
import { type Fields, oneCharacter, shortText } from "./fields.ts";
import { checkGrowth } from "./growth.ts";
import { patternOf, replaced } from "./pattern.ts";

/** From tokens to parts of a text. */
type Decoder = (tokens: readonly string[]) => readonly string[];

/**
 * Builds a decoder.
 *
 * @param fields Its description; null for none, which joins tokens with spaces
 * @returns From tokens to text
 * @throws {DataError} When it is of an unknown kind or has a bad value
 */
export function decoderOf(fields: Fields | null): (tokens: readonly string[]) => string {
  if (fields === null) return (tokens) => tokens.join(" ");
  const decoder = partOf(fields);
  return (tokens) => decoder(tokens).join("");
}

function partOf(fields: Fields): Decoder {
  const type = fields.word("type", Object.keys(KINDS));
  return KINDS[type](fields);
}

const KINDS: Readonly<Record<string, (fields: Fields) => Decoder>> = {
  Sequence(fields) {
    const parts = fields.objects("decoders").map(partOf);
    const size = (texts: readonly string[]): number => texts.reduce((n, { length }) => n + length + 1, 0);
    return (tokens) => {
      const before = size(tokens);
      return parts.reduce((result, part) => {
        const decoded = part(result);
        checkGrowth(size(decoded), before);
        return decoded;
      }, tokens);
    };
  },
  ByteLevel: () => (tokens) => [lossy(tokens.flatMap((token) => [...charactersAsBytes(token)]))],
  ByteFallback: () => byteFallback,
  Fuse: () => (tokens) => [tokens.join("")],
  Replace(fields) {
    const pattern = patternOf(fields), content = shortText(fields, "content");
    return (tokens) => tokens.map((token) => replaced(token, { pattern, content }));
  },
  Strip(fields) {
    const content = fields.text("content"), most = 1024;
    const start = fields.whole("start", { most }), stop = fields.whole("stop", { most });
    return (tokens) => tokens.map((token) => strip([...token], { content, start, stop }));
  },
  Metaspace(fields) {
    const replacement = oneCharacter(fields, "replacement", "▁");
    const prefix = fields.word("prepend_scheme", ["always", "first", "never"], "always") !== "never";
    return (tokens) => tokens.map((token, i) => token.replaceAll(replacement, i === 0 && prefix ? "" : " "));
  },
  WordPiece(fields) {
    const prefix = fields.text("prefix", "##"), clean = fields.flag("cleanup", true);
    return (tokens) =>
      tokens.map((token, i) => {
        const joins = i > 0 && prefix !== "" && token.startsWith(prefix);
        const text = i === 0 ? token : joins ? token.slice(prefix.length) : ` ${token}`;
        return clean ? cleanUp(text) : text;
      });
  },
  BPEDecoder(fields) {
    const suffix = fields.text("suffix", "</w>");
    return (tokens) => tokens.map((token, i) => token.replaceAll(suffix, i === tokens.length - 1 ? "" : " "));
  },
  CTC(fields) {
    const pad = fields.text("pad_token", "<pad>"), space = fields.text("word_delimiter_token", "|");
    const clean = fields.flag("cleanup", true);
    return (tokens) =>
      tokens.filter((token, i) => token !== tokens[i - 1]).map((token) => {
        const text = pad === "" ? token : token.replaceAll(pad, "");
        return clean ? cleanUp(text).replaceAll(space, " ") : text;
      }).filter((text) => text !== "");
  },
};

/** UTF-8 as text; a byte order mark is text like any other. */
function lossy(bytes: readonly number[]): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes));
}

/** Runs of tokens such as `<0xE2>` as UTF-8; each byte of a run that is not UTF-8 becomes U+FFFD. */
function byteFallback(tokens: readonly string[]): string[] {
  const result: string[] = [];
  let run: number[] = [];
  const flush = (): void => {
    if (run.length === 0) return;
    const text = lossy(run), whole = new TextEncoder().encode(text);
    const valid = whole.length === run.length && whole.every((byte, i) => byte === run[i]);
    if (valid) result.push(text);
    else result.push(...run.map(() => "\ufffd"));
    run = [];
  };
  for (const token of tokens) {
    const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(token);
    if (byte !== null) run.push(parseInt(byte[1], 16));
    else {
      flush();
      result.push(token);
    }
  }
  flush();
  return result;
}

function strip(
  characters: readonly string[],
  { content, start, stop }: { readonly content: string; readonly start: number; readonly stop: number },
): string {
  let left = 0, right = characters.length;
  while (left < start && characters[left] === content) left++;
  while (characters.length - right < stop && right > left && characters[right - 1] === content) right--;
  return characters.slice(left, right).join("");
}

/**
 * Removes the spaces that a split into words put before punctuation and contractions.
 *
 * @param text The text
 * @returns The text without them
 */
export function cleanUp(text: string): string {
  const pairs = [[" .", "."], [" ?", "?"], [" !", "!"], [" ,", ","], [" ' ", "'"], [" n't", "n't"], [
    " 'm",
    "'m",
  ]];
  const more = [[" do not", " don't"], [" 's", "'s"], [" 've", "'ve"], [" 're", "'re"]];
  return [...pairs, ...more].reduce((result, [from, to]) => result.replaceAll(from, to), text);
}
