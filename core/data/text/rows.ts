/**
 * Rows of JSON: a document a row.
 *
 * @module
 */

import { DataError } from "../../errors.ts";
import { isRecord } from "../../json_rules.ts";

/** Characters that a row may have. */
const MOST = 2 ** 26;

/**
 * Reads the field `text` of every row. Blank lines are left out.
 *
 * @param chunks The file
 * @param options `path`: its name, for errors; `most`: characters that a row may have
 * @returns The texts; none is blank
 * @throws {DataError} When a row is too long, or is no JSON object with text in `text`; it names the line
 */
export async function* rowsOf(
  chunks: AsyncIterable<string>,
  { path, most = MOST }: { readonly path: string; readonly most?: number },
): AsyncGenerator<string, void, undefined> {
  let line = 1, rest = "";
  const fail = (rule: string, cause?: unknown): DataError =>
    new DataError(`Cannot read line ${line} of "${path}" as ${rule}; mend the line`, { cause });
  const checked = (row: string): string => {
    if (row.length > most) throw fail(`a row may have ${most} characters: it has more`);
    return row;
  };
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf("\n"); end >= 0; end = chunk.indexOf("\n", start)) {
      const row = checked(rest + chunk.slice(start, end));
      if (row.trim() !== "") yield textOf(row, fail);
      rest = "";
      start = end + 1;
      line++;
    }
    rest = checked(rest + chunk.slice(start));
  }
  if (rest.trim() !== "") yield textOf(rest, fail);
}

function textOf(row: string, fail: (rule: string, cause?: unknown) => DataError): string {
  const rule = 'a row must be a JSON object with text in "text"';
  let value: unknown;
  try {
    value = JSON.parse(row);
  } catch (error) {
    throw fail(`${rule}: ${(error as Error).message}`, error);
  }
  const text = isRecord(value) ? value.text : undefined;
  if (typeof text !== "string" || text.trim() === "") throw fail(`${rule}: it has none`);
  return text;
}
