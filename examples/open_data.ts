/**
 * The data that flags name, opened: running text, or rows.
 *
 * @module
 */

import { type Corpus, corpusOfRows, openRows, type Rows } from "@firn/train/data";
import { counted } from "@firn/train/report";
import { columnsIn, type OpenFlags, weightsOf } from "./data_flags.ts";
import { setsOf } from "./evaluation_flags.ts";
import { UsageError } from "./flags.ts";
import { locateData } from "./hub.ts";
import { print } from "./print.ts";
import { stage } from "./progress.ts";
import { isText, openText } from "./text.ts";

/** Bytes of text whose tokens are all kept in memory. */
const IN_MEMORY = 2 ** 28;

/** Text or rows that were read once and found to be good. */
export type OpenData = { readonly corpus: Corpus } | RowData;

/** Rows of one or several files, and what share each is of a mixture. */
export interface RowData {
  readonly parts: readonly { readonly name: string; readonly rows: Rows; readonly weight: number }[];
}

/** What a run reads, opened. */
export interface OpenedData {
  readonly data: OpenData;
  /** What judges the model; null for a part of `data`. */
  readonly validation: OpenData | null;
  /** Sets for evaluation while it trains, by name. */
  readonly sets?: ReadonlyMap<string, OpenData>;
}

/**
 * Opens what the flags name, before any model is loaded.
 *
 * @param flags The flags
 * @returns Text or rows
 * @throws {FirnError} When a file is missing or damaged, or a row cannot be used
 */
export async function openData(flags: OpenFlags): Promise<OpenedData> {
  const { validation, data } = flags, sets = new Map<string, OpenData>();
  for (const { name, path } of setsOf({ "evaluate-on": flags["evaluate-on"] ?? [] })) {
    sets.set(name, await stage(`reading     ${path}`, () => openOne([path], flags)));
  }
  return {
    sets,
    data: await stage(`reading     ${data.join(", ")}`, () => openOne(data, flags)),
    validation: validation === null
      ? null
      : await stage(`reading     ${validation}`, () => openOne([validation], flags)),
  };
}

async function openOne(named: readonly string[], flags: OpenFlags): Promise<OpenData> {
  const mixture = weightsOf(named);
  if (mixture !== null) {
    const parts: RowData["parts"][number][] = [];
    for (const { name, weight } of mixture) {
      parts.push({ name, weight, rows: await openTrainRows(await locateData([name]), flags) });
    }
    return { parts };
  }
  const sources = await locateData(named);
  if (sources.length === 1 && isText(sources[0])) return { corpus: await openText(sources[0]) };
  const rows = await openTrainRows(sources, flags);
  const bytes = rows.blocks.reduce((n, block) => n + block.bytes, 0);
  if (rows.kind === "text" && isStream(flags) && bytes <= IN_MEMORY) {
    return { corpus: await corpusOfRows(rows as Rows<"text">) };
  }
  return { parts: [{ name: named.join(", "), rows, weight: 1 }] };
}

/** Whether texts are one stream: where each stays by itself, long ones are cut or dropped. */
export function isStream({ pack, long }: OpenFlags): boolean {
  return !pack && (long === "auto" || long === "split");
}

async function openTrainRows(sources: readonly string[], flags: OpenFlags): Promise<Rows> {
  const rows = await openRows(sources, {
    columns: columnsIn(flags.columns)!,
    skipBadRows: flags["skip-bad-rows"],
  });
  if (rows.skipped > 0) print(`skipped     ${counted(rows.skipped, "row")} that cannot be used`);
  if (["text", "completion", "chat"].includes(rows.kind)) return rows;
  const mend = rows.kind === "preference"
    ? "; name the better answer: --columns prompt=prompt,completion=chosen, or messages=chosen where it is a conversation"
    : rows.kind === "image"
    ? "; ./firn vision trains on images"
    : "";
  throw new UsageError(
    `--data and --validation must hold text, prompts and completions, or conversations: "${
      sources.join(", ")
    }" holds rows of kind ${rows.kind}${mend}`,
  );
}
