/**
 * Batches as text, to look at.
 *
 * @module
 */

import type { TokenBatch } from "../../models/tasks.ts";
import { IGNORE } from "../../ops/cross_entropy.ts";
import { hostValues } from "../../sources.ts";
import type { Tokenizer } from "../tokenizer/load_tokenizer.ts";

/** Tokens side by side that are all learned, or all not. */
export interface TokenRun {
  /** Their text; ids in brackets where a token has none, as special ones. */
  readonly text: string;
  /** Whether they are learned. */
  readonly learned: boolean;
  /** How many they are. */
  readonly tokens: number;
}

/**
 * The tokens of a batch, as text.
 *
 * @param batch The batch, made from values
 * @param tokenizer What decodes them
 * @returns Runs of each row, without the padding behind the last learned token
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { encodeExample, loadTokenizer, padSamples, tokenRuns } from "@firn/train/data";
 *
 * const tokenizer = await loadTokenizer("examples/models/sotu");
 * const sample = encodeExample(tokenizer, { kind: "completion", prompt: "The state of", completion: " the union" });
 * const [runs] = tokenRuns(padSamples([sample]), tokenizer);
 * assertEquals(runs.map(({ text }) => text), ["The state of", " the union⟨0⟩"]);
 * ```
 */
export function tokenRuns(
  { inputIds, labels, segments }: TokenBatch,
  { decode }: Pick<Tokenizer, "decode">,
): readonly (readonly TokenRun[])[] {
  const ids = hostValues(inputIds, "inputIds") as Int32Array,
    wanted = hostValues(labels, "labels") as Int32Array;
  const documents = segments === undefined ? null : hostValues(segments, "segments") as Int32Array;
  const [batch, time] = inputIds.shape;
  return Array.from({ length: batch }, (_, row) => {
    const begin = row * time, runs: number[][] = [];
    let end = begin + time;
    while (end > begin && wanted[end - 1] === IGNORE && ids[end - 1] === ids[begin + time - 1]) end--;
    const starts = (i: number): boolean =>
      i === begin || (wanted[i] === IGNORE) !== (wanted[i - 1] === IGNORE) ||
      (documents !== null && documents[i] !== documents[i - 1]);
    for (let i = begin; i < end; i++) {
      if (starts(i)) runs.push([]);
      runs.at(-1)!.push(i);
    }
    return runs.map((places) => ({
      text: textOf(places.map((i) => ids[i]), decode),
      learned: wanted[places[0]] !== IGNORE,
      tokens: places.length,
    }));
  });
}

/** The text of ids, and in brackets those that have none. */
function textOf(ids: readonly number[], decode: Tokenizer["decode"]): string {
  let text = "", held: number[] = [];
  for (const id of ids) {
    if (decode([id]) !== "") held.push(id);
    else {
      text += `${decode(held)}⟨${id}⟩`;
      held = [];
    }
  }
  return text + decode(held);
}
