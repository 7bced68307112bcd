/**
 * Runs works: contenders by turns, and PyTorch between Firn's rounds.
 *
 * @module
 */

import type { Gpu } from "@firn/train";
import { type Lengths, race, start, type Started } from "./measure.ts";
import { type Row, sideResult } from "./results.ts";
import { askTwin, type TwinSide, type TwinWork } from "./twin.ts";
import type { Entry } from "./works.ts";

interface Opened {
  readonly entry: Entry;
  readonly started: readonly Started[];
  readonly times: number[][];
}

/**
 * Measures rows.
 *
 * Beside PyTorch the rounds are halved: Firn, PyTorch, Firn, PyTorch, each for half of them.
 *
 * @param gpu The device
 * @param entries The rows
 * @param options How long, and the command of the twin where PyTorch takes part
 * @returns A row for each entry
 * @throws {Error} When contenders that start alike do not have the same loss
 */
export async function measureEntries(
  gpu: Gpu,
  entries: readonly Entry[],
  options: { readonly lengths: Lengths; readonly twin: readonly string[] | null },
): Promise<Row[]> {
  const { twin } = options;
  const asked = entries.filter((entry) => entry.twin !== null);
  const visits = twin === null || asked.length === 0 ? 1 : 2;
  const lengths = { ...options.lengths, rounds: Math.ceil(options.lengths.rounds / visits) };
  const opened: Opened[] = [], peers: TwinSide[] = [];
  try {
    for (const entry of entries) opened.push(await open(gpu, entry));
    for (let visit = 0; visit < visits; visit++) {
      for (const { started, times } of opened) {
        const found = await race(started.map(({ contender }) => contender), lengths);
        found.forEach((values, i) => times[i].push(...values));
      }
      if (visits === 1) continue;
      const works = asked.map(({ twin, lossAt }) => ({ ...twin as TwinWork, lossAt }));
      peers.push(...(await askTwin(works, lengths, twin!)).sides);
    }
    gpu.check();
    return opened.map((one) => rowOf(one, peers.filter(({ work }) => asked[work] === one.entry)));
  } finally {
    for (const { started } of opened) for (const { contender } of started) contender.close();
  }
}

async function open(gpu: Gpu, entry: Entry): Promise<Opened> {
  const contenders = await entry.open(gpu);
  const started: Started[] = [];
  for (const contender of contenders) started.push(await start(contender, entry.lossAt));
  if (entry.tolerance !== null) checkLosses(started, entry.tolerance);
  return { entry, started, times: contenders.map(() => []) };
}

function checkLosses([ours, ...others]: readonly Started[], tolerance: number): void {
  for (const { contender, loss } of others) {
    if (Math.abs(loss! - ours.loss!) <= tolerance) continue;
    throw new Error(
      `Cannot compare "${ours.contender.name}" and "${contender.name}" as their losses must agree to ${tolerance}: ${ours.loss} and ${loss}`,
    );
  }
}

function rowOf({ entry, started, times }: Opened, peers: readonly TwinSide[]): Row {
  const own = started.map(({ contender, first, loss }, i) =>
    sideResult({
      name: contender.name,
      side: contender.side,
      first,
      times: times[i],
      unclipped: null,
      memory: contender.memory(),
      loss,
    })
  );
  const names = [...new Set(peers.map(({ name }) => name))];
  const theirs = names.map((name) => {
    const visits = peers.filter((peer) => peer.name === name);
    const unclipped = visits.flatMap((visit) => visit.unclipped ?? []);
    return sideResult({
      ...visits[0],
      times: visits.flatMap((visit) => visit.times),
      unclipped: unclipped.length > 0 ? unclipped : null,
    });
  });
  return { work: entry.work, flops: entry.flops, lossAt: entry.lossAt, sides: [...own, ...theirs] };
}
