/**
 * Added tokens: texts that are found in a text before anything else is done to it.
 *
 * @module
 */

import { type Fields, isWhole } from "./fields.ts";
import type { Normalizer } from "./normalizer.ts";
import { type Trie, trieOf } from "./trie.ts";

/** A text is compared with added tokens from each of its characters. */
const MOST_CHARACTERS = 256;

/** An added token. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** Left out of decoded text. */
  readonly special: boolean;
  /** Found in normalized text. */
  readonly normalized: boolean;
  /** Found only where no letter or digit stands beside it. */
  readonly singleWord: boolean;
  /** Takes the white space before it. */
  readonly lstrip: boolean;
  /** Takes the white space after it. */
  readonly rstrip: boolean;
}

/** A part of a text: an added token, or text. */
export interface Section {
  readonly token?: AddedToken;
  readonly text: string;
  /** It stands at the very beginning. */
  readonly first: boolean;
}

/**
 * Reads `added_tokens`.
 *
 * @param fields The whole file
 * @param most The highest id
 * @returns The tokens
 * @throws {DataError} When an id is not a whole number up to the limit, or a text is empty or long
 */
export function addedTokensOf(fields: Fields, most: number): readonly AddedToken[] {
  if ((fields.json.added_tokens ?? null) === null) return [];
  return fields.objects("added_tokens", most + 1).map((token) => {
    if (!isWhole(token.json.id, most)) {
      throw token.error("id", `a whole number from 0 to ${most}`, token.json.id);
    }
    const special = token.flag("special", false), content = token.text("content");
    if (content === "" || content.length > MOST_CHARACTERS) {
      throw token.error("content", `a text of 1 to ${MOST_CHARACTERS} characters`, content);
    }
    return {
      id: token.json.id,
      content,
      special,
      normalized: token.flag("normalized", !special),
      singleWord: token.flag("single_word", false),
      lstrip: token.flag("lstrip", false),
      rstrip: token.flag("rstrip", false),
    };
  });
}

/**
 * Makes the function that cuts a text at its added tokens and normalizes the rest.
 *
 * @param tokens The tokens
 * @param normalize What is done to the text between tokens
 * @returns From a text to its sections
 */
export function cutter(
  tokens: readonly AddedToken[],
  normalize: Normalizer,
): (text: string) => readonly Section[] {
  const raw = trieOf(
    tokens.filter((token) => !token.normalized).map((token) => [token.content, token] as const),
  );
  const normal = trieOf(
    tokens.filter((token) => token.normalized).map((token) => [normalize(token.content), token] as const),
  );
  return (text) =>
    cut({ text, first: true }, raw).flatMap((section) =>
      section.token ? [section] : cut({ ...section, text: normalize(section.text) }, normal)
    );
}

const WORD = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200c\u200d]/u, SPACE = /\p{White_Space}/u;

function cut({ text, first }: Section, trie: Trie<AddedToken>): Section[] {
  const sections: Section[] = [];
  const add = (start: number, end: number, token?: AddedToken): void => {
    if (end > start) sections.push({ text: text.slice(start, end), first: first && start === 0, token });
  };
  let done = 0, at = 0;
  while (at < text.length) {
    const found = trie.next.has(text[at]) ? longest(text, { at, trie }) : null;
    if (found === null) {
      at++;
      continue;
    }
    let [start, end] = [at, found.end];
    at = end;
    const { token } = found;
    if (token.singleWord && (isWordBefore(text, start) || isWordAfter(text, end))) continue;
    if (token.lstrip) { while (start > done && SPACE.test(text[start - 1])) start--; }
    if (token.rstrip) { while (end < text.length && SPACE.test(text[end])) end++; }
    add(done, start);
    add(start, end, token);
    done = end;
    at = Math.max(at, end);
  }
  add(done, text.length);
  return sections;
}

function longest(
  text: string,
  { at, trie }: { readonly at: number; readonly trie: Trie<AddedToken> },
): { readonly token: AddedToken; readonly end: number } | null {
  let found: { token: AddedToken; end: number } | null = null;
  let node: Trie<AddedToken> | undefined = trie;
  for (let end = at; end < text.length; end++) {
    node = node.next.get(text[end]);
    if (node === undefined) break;
    if (node.value) found = { token: node.value, end: end + 1 };
  }
  return found;
}

function isWordBefore(text: string, at: number): boolean {
  return at > 0 && WORD.test([...text.slice(Math.max(0, at - 2), at)].at(-1)!);
}

function isWordAfter(text: string, at: number): boolean {
  return at < text.length && WORD.test(String.fromCodePoint(text.codePointAt(at)!));
}
