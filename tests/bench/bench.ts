/**
 * Runs works: contenders by turns, one work open at a time, and PyTorch once before and once after all of them.
 *
 * @module
 */

import type { Gpu } from "@firn/train";
import { type Lengths, race, start, type Started } from "./measure.ts";
import { type Row, sideResult } from "./results.ts";
import { askTwin, type TwinMachine, type TwinSide, type TwinWork, type Way } from "./twin.ts";
import type { Entry } from "./works.ts";

/** What PyTorch measured of each row, over one or more visits. */
export type Peers = ReadonlyMap<Entry, readonly TwinSide[]>;

/**
 * Measures a row: its contenders are made, take turns, and give their memory back.
 *
 * @param gpu The device
 * @param entry The row
 * @param lengths How long
 * @returns Firn and the peers that run in this process
 * @throws {Error} When contenders that start alike do not have the same loss
 */
export async function measureEntry(gpu: Gpu, entry: Entry, lengths: Lengths): Promise<Row> {
  const contenders = await entry.open(gpu);
  try {
    const started: Started[] = [];
    for (const contender of contenders) started.push(await start(contender, entry.lossAt));
    if (entry.tolerance !== null) checkLosses(started, entry.tolerance);
    const times = await race(contenders, lengths);
    gpu.check();
    return rowOf(entry, started, times);
  } finally {
    for (const contender of contenders) await contender.close();
  }
}

/**
 * Lets PyTorch measure every row that it has a twin of, in one process for its share of the rounds.
 *
 * The process ends before Firn takes memory. One visit before Firn and one after it: a drift of the device over the whole
 * run hits both alike.
 *
 * @param entries The rows
 * @param options How long in all, visits in all, the ways in which PyTorch computes, and the command of the twin
 * @returns What it measured, where, and what it could not run
 */
export async function visitTwin(
  entries: readonly Entry[],
  { lengths, visits = 2, ways, twin }: {
    readonly lengths: Lengths;
    readonly visits?: number;
    readonly ways: readonly Way[];
    readonly twin: readonly string[];
  },
): Promise<{ readonly machine: TwinMachine; readonly peers: Peers; readonly leftOut: readonly string[] }> {
  const asked = entries.filter((entry) => entry.twin !== null);
  const works = asked.map(({ twin, lossAt }) => ({ ...twin as TwinWork, lossAt }));
  const { machine, sides, leftOut } = await askTwin(
    works,
    { ...lengths, rounds: Math.ceil(lengths.rounds / visits), ways },
    twin,
  );
  return {
    machine,
    leftOut,
    peers: new Map(asked.map((entry, i) => [entry, sides.filter(({ work }) => work === i)])),
  };
}

/** A row with what PyTorch measured in some visits: their rounds count alike. */
export function withPeers(row: Row, visits: readonly (readonly TwinSide[])[]): Row {
  const peers = visits.flat();
  const theirs = [...new Set(peers.map(({ name }) => name))].map((name) => {
    const own = peers.filter((peer) => peer.name === name);
    const unclipped = own.flatMap((visit) => visit.unclipped ?? []);
    return sideResult({
      ...own[0],
      allocated: null,
      times: own.flatMap((visit) => visit.times),
      unclipped: unclipped.length > 0 ? unclipped : null,
    });
  });
  return { ...row, sides: [...row.sides, ...theirs] };
}

function checkLosses([ours, ...others]: readonly Started[], tolerance: number): void {
  for (const { contender, loss } of others) {
    if (Math.abs(loss! - ours.loss!) <= tolerance) continue;
    throw new Error(
      `Cannot compare "${ours.contender.name}" and "${contender.name}" as their losses must agree to ${tolerance}: ${ours.loss} and ${loss}`,
    );
  }
}

function rowOf(entry: Entry, started: readonly Started[], times: readonly (readonly number[])[]): Row {
  const sides = started.map(({ contender, first, loss }, i) => {
    const memory = contender.memory();
    return sideResult({
      name: contender.name,
      side: contender.side,
      first,
      times: times[i],
      unclipped: null,
      memory: memory?.planned ?? null,
      allocated: memory,
      loss,
    });
  });
  const { work, flops, averaged, lossAt } = entry;
  return { work, flops, averaged, lossAt, sides };
}
