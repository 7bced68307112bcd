/**
 * Normalizers of `tokenizer.json`: what is done to a text before it is cut.
 *
 * @module
 */

import { bytesAsCharacters } from "./byte_characters.ts";
import { type Fields, shortText } from "./fields.ts";
import { checkGrowth } from "./growth.ts";
import { patternOf, replaced, SPACE } from "./pattern.ts";
import { precompiled } from "./precompiled.ts";

/** A function from text to text. */
export type Normalizer = (text: string) => string;

/**
 * Builds a normalizer.
 *
 * @param fields The normalizer's description; null for none
 * @returns The function
 * @throws {DataError} When it is of an unknown kind or has a bad value
 */
export function normalizerOf(fields: Fields | null): Normalizer {
  if (fields === null) return (text) => text;
  const type = fields.word("type", Object.keys(KINDS));
  return KINDS[type](fields);
}

const form = (name: "NFC" | "NFD" | "NFKC" | "NFKD") => (): Normalizer => (text) => text.normalize(name);

const KINDS: Readonly<Record<string, (fields: Fields) => Normalizer>> = {
  NFC: form("NFC"),
  NFD: form("NFD"),
  NFKC: form("NFKC"),
  NFKD: form("NFKD"),
  Sequence(fields) {
    const parts = fields.objects("normalizers").map(normalizerOf);
    return (text) =>
      parts.reduce((result, part) => {
        const grown = part(result);
        checkGrowth(grown.length, text.length);
        return grown;
      }, text);
  },
  Prepend(fields) {
    const prefix = shortText(fields, "prepend");
    return (text) => text === "" ? "" : prefix + text;
  },
  Replace(fields) {
    const pattern = patternOf(fields), content = shortText(fields, "content");
    return (text) => replaced(text, { pattern, content });
  },
  Strip(fields) {
    const left = fields.flag("strip_left", true), right = fields.flag("strip_right", true);
    return (text) => stripped(text, { left, right });
  },
  StripAccents: () => (text) => text.replace(/\p{M}/gu, ""),
  Lowercase: () => lowercase,
  ByteLevel: () => bytesAsCharacters,
  Nmt: () => (text) =>
    // deno-lint-ignore no-control-regex
    text.replace(/[\u0001-\u0008\u000b\u000e-\u001f\u007f\u008f\u009f]/g, "")
      .replace(/[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/g, " "),
  Precompiled: (fields) => precompiled(fields),
  BertNormalizer: bertNormalizer,
};

/** Removes white space at the ends, without looking at the middle again and again. */
export function stripped(
  text: string,
  { left, right }: { readonly left: boolean; readonly right: boolean },
): string {
  const space = new RegExp(SPACE, "u");
  let start = 0, end = text.length;
  while (left && start < end && space.test(text[start])) start++;
  while (right && end > start && space.test(text[end - 1])) end--;
  return text.slice(start, end);
}

/** Each character by itself, as Rust does: a sigma at the end of a word is no other letter. */
function lowercase(text: string): string {
  return text.replaceAll("Σ", "σ").toLowerCase();
}

function bertNormalizer(fields: Fields): Normalizer {
  const clean = fields.flag("clean_text", true), chinese = fields.flag("handle_chinese_chars", true);
  const lower = fields.flag("lowercase", true), strip = fields.flag("strip_accents", lower);
  return (text) => {
    if (clean) {
      text = text.replace(/[\0\ufffd]|(?![\t\n\r])[\p{Cc}\p{Cf}\p{Co}\p{Cs}]/gu, "")
        .replace(/\p{White_Space}/gu, " ");
    }
    if (chinese) {
      text = text.replace(
        /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu,
        " $& ",
      );
    }
    if (strip) text = text.normalize("NFD").replace(/\p{Mn}/gu, "");
    return lower ? lowercase(text) : text;
  };
}
