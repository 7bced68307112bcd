/**
 * The look of all ranks: means of what each measured.
 *
 * @module
 */

import { NonFiniteError } from "../errors.ts";
import type { Look, Signal } from "../policy.ts";
import type { LookOfRanks } from "../train/parameter_exchange.ts";
import type { Path } from "../tree.ts";
import type { Ranks } from "../train/ranks.ts";

/**
 * Averages a look over the ranks. What a rank did not measure does not count: the mean is that of the others.
 *
 * @param ranks The ranks
 * @param own Makes the look of this one
 * @returns The same look on all
 * @throws {NonFiniteError} On all ranks, when that of one does
 */
export async function averageLook(ranks: Ranks, own: () => Promise<LookOfRanks>): Promise<LookOfRanks> {
  const mine = await own().catch(keepNonFinite), failed = mine instanceof NonFiniteError;
  const [failures, wides] = await summed(ranks, [failed ? 1 : 0, !failed && mine.wide ? 1 : 0]);
  if (failed || failures > 0) return await failTogether(ranks, failed ? mine : null);
  const { look } = mine, rows = rowsOf(look), values = rows.flat();
  const present = values.map((value) => Number.isFinite(value) ? 1 : 0);
  const absent = look.steps.map((step) => look.skipped?.includes(step) ? 1 : 0);
  const sums = await summed(ranks, [
    ...values.map((value, i) => present[i] === 1 ? value : 0),
    ...present,
    ...absent,
    look.skipped === undefined ? 0 : 1,
  ]);
  const { length } = values,
    mean = (i: number): number => sums[length + i] === 0 ? NaN : sums[i] / sums[length + i];
  const means = rows.map((row, r) => row.map((_, i) => mean(r * row.length + i)));
  const skipped = look.steps.filter((_, i) => sums[2 * length + i] === ranks.size);
  return { look: { ...withRows(look, means), ...sums.at(-1)! > 0 && { skipped } }, wide: wides > 0 };
}

function keepNonFinite(error: unknown): NonFiniteError {
  if (error instanceof NonFiniteError) return error;
  throw error;
}

async function summed(ranks: Ranks, numbers: readonly number[]): Promise<Float32Array> {
  const data = Float32Array.from(numbers);
  await ranks.sum(data);
  return data;
}

/** Throws the error of this rank, or tells that of the first one that has one. */
async function failTogether(ranks: Ranks, own: NonFiniteError | null): Promise<never> {
  const line = own === null ? null : { what: own.what, step: own.step, value: `${own.value}` };
  const all = await ranks.gather(new TextEncoder().encode(`${JSON.stringify(line)}\n`));
  if (own !== null) throw own;
  const lines: readonly (typeof line)[] = new TextDecoder().decode(all).trimEnd().split("\n").map((text) =>
    JSON.parse(text)
  );
  const rank = lines.findIndex((other) => other !== null), { what, step, value } = lines[rank]!;
  throw new NonFiniteError(what, step, Number(value), {
    mend: `so it is on rank ${rank}, which says what helps`,
  });
}

/** The numbers of a look in an order that all ranks have: one row of as many as there are steps for each series. */
function rowsOf({ loss, clip, metrics = {}, readings }: Look): (readonly number[])[] {
  const signals = Object.values(readings).flatMap((components) => Object.values(components!));
  return [loss, ...clip === undefined ? [] : [clip], ...Object.values(metrics), ...signals];
}

/** A look with other numbers. */
function withRows(look: Look, rows: readonly (readonly number[])[]): Look {
  const left = rows.values(), next = (): readonly number[] => left.next().value!;
  const named = (record: Readonly<Record<string, unknown>>): Record<string, readonly number[]> =>
    Object.fromEntries(Object.keys(record).map((name) => [name, next()]));
  const loss = next(), clip = look.clip && next(), metrics = look.metrics && named(look.metrics);
  const readings = Object.fromEntries(
    Object.entries(look.readings).map(([signal, components]) => [signal, named(components!)]),
  ) as { readonly [S in Signal]?: Readonly<Record<Path, readonly number[]>> };
  return { ...look, loss, readings, ...clip && { clip }, ...metrics && { metrics } };
}
