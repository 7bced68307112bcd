/**
 * Flags of how many samples a step has, and what `--batch auto` stands for.
 *
 * @module
 */

import { InputError, leaf, type Spec, type TensorTree, type Training } from "@firn/train";
import { bytesText, counted } from "@firn/train/report";
import { type Flag, UsageError, whole } from "./flags.ts";
import { print } from "./print.ts";

/** Most samples of a batch that `--batch auto` chooses. */
const MOST = 1024;

/** A size of batches that is given, or that is to be found. */
export type BatchSize = number | "auto";

/** Flags of commands that find the size of batches. */
export function batchFlags<F extends number | null>(
  samples: string,
  fallback: F,
): { readonly batch: Flag<BatchSize | F>; readonly "total-batch": Flag<number | null> } {
  return {
    batch: {
      placeholder: "N|auto",
      about:
        `${samples} in a batch; auto: as many, up to ${MOST} or all, as fit in --memory with nothing computed again`,
      fallback,
      read: (value) => {
        if (value === "auto") return value;
        const n = value.trim() === "" ? NaN : Number(value);
        if (Number.isSafeInteger(n) && n >= 1) return n;
        throw new InputError("a whole number from 1, or auto");
      },
    },
    "total-batch": whole(
      `${samples} in a step, in as many batches as it takes: --accumulate follows from it`,
      null,
    ),
  };
}

/** Flags that say how many samples a step has. */
export interface BatchChoiceFlags {
  readonly batch: BatchSize;
  readonly "total-batch": number | null;
  readonly accumulate: number;
  readonly memory: string | null;
}

/** Sizes that were chosen. */
export interface ChosenBatch {
  readonly batch: number;
  readonly accumulate: number;
}

/**
 * Refuses sizes that do not go together, before anything is loaded.
 *
 * @param flags The flags
 * @throws {UsageError} When they do not
 */
export function checkBatch({ batch, "total-batch": total, accumulate, memory }: BatchChoiceFlags): void {
  if (batch === "auto" && memory === null) {
    throw new UsageError(
      '--batch auto needs --memory, as in --memory "8 GiB": WebGPU does not tell how much memory a device has',
    );
  }
  if (total === null) return;
  if (accumulate !== 1 && !(batch !== "auto" && batch * accumulate === total)) {
    throw new UsageError("--accumulate follows from --total-batch: drop one of both");
  }
  if (batch !== "auto" && total % batch !== 0) {
    throw new UsageError(`--total-batch must be a multiple of --batch ${batch}: got ${total}`);
  }
}

/**
 * The size of batches, and how many a step has. What `auto` found is printed, and what all ranks make of it.
 *
 * @param flags The flags
 * @param options Parameters, a batch by size, and a training by how many batches a step has
 * @returns Both
 * @throws {InputError} When not even one sample fits
 */
export function chooseBatch<P extends TensorTree, B extends TensorTree>(
  { batch, "total-batch": asked, accumulate, memory }: BatchChoiceFlags,
  { params, batchOf, trainingOf, ranks = 1, available = Infinity }: {
    /** Processes that share a step; 1 when absent. */
    readonly ranks?: number;
    /** Samples that there are, so that a batch has none twice; as many as a batch may have when absent. */
    readonly available?: number;
    readonly params: P;
    readonly batchOf: (size: number) => B;
    readonly trainingOf: (accumulate: number) => Training<P, B>;
  },
): ChosenBatch {
  const total = asked && asked / ranks, least = batch === "auto" ? 1 : batch;
  if (total !== null && !Number.isInteger(total / least)) {
    throw new UsageError(
      `--total-batch must be a multiple of ${
        batch === "auto" ? `the number of ranks, ${ranks}` : `--batch ${batch} on ${ranks} ranks`
      }: got ${asked}`,
    );
  }
  const told = (chosen: ChosenBatch): ChosenBatch => {
    const { batch, accumulate } = chosen, parts = accumulate === 1 ? "" : `${accumulate} × `;
    if (ranks > 1) {
      print(`samples     ${ranks * accumulate * batch} a step: ${ranks} ranks × ${parts}${batch}`);
    }
    return chosen;
  };
  if (batch !== "auto") return told({ batch, accumulate: total === null ? accumulate : total / batch });
  const find = (accumulate: number, most: number) => {
    using training = trainingOf(accumulate);
    return training.largestBatch({ params, batchOf, most });
  };
  const most = Math.min(total ?? MOST, Math.max(1, Math.floor(available / ranks)));
  let parts = accumulate, found = find(parts, most);
  if (total !== null && found.size < total) {
    // A step of several batches keeps sums of gradients besides.
    const { size, memory } = find(2, Math.min(total - 1, most));
    const even = Array.from({ length: size }, (_, i) => size - i).find((n) => total % n === 0)!;
    found = { size: even, memory };
    parts = total / even;
  }
  const { size, memory: { bytes, blocks } } = found, all = size === most;
  const why = !all
    ? "the largest that fits in"
    : total !== null && size === total
    ? "all of a step, fits in"
    : most < MOST
    ? "all that there are, fits in"
    : "the most that auto takes, fits in";
  print(
    `batch       ${size}${parts > 1 ? ` × ${parts}` : ""}, ${why} ${memory}: a step takes ${
      parts > 1 && total !== null ? "at most " : ""
    }${bytesText(bytes)}${blocks > 0 ? `, with ${counted(blocks, "block")} computed again` : ""}`,
  );
  return told({ batch: size, accumulate: parts });
}

/** Tokens of so many sequences, as shapes alone. */
export function tokensOf(
  size: number,
  { length, pack = false }: { readonly length: number; readonly pack?: boolean },
): { readonly inputIds: ReturnType<typeof leaf>; readonly labels: ReturnType<typeof leaf> } {
  const spec: Spec = { shape: [size, length], dtype: "i32" };
  return {
    inputIds: leaf("inputIds", spec),
    labels: leaf("labels", spec),
    ...pack && { segments: leaf("segments", spec) },
  };
}
