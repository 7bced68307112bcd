/**
 * One rank of tests/ranks/shared_sum_test.ts. `shared_sum_rank.ts sums` compares sums with those of one process, `lanes` those by
 * several threads, and `hosts` those of two hosts with two ranks each. `dies` waits for a rank that dies, and `throws` and `exits` end
 * by such an error while the other rank lives on. Rank 0 prints.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { RanksError } from "@firn/train/ranks";
import { type MappedMemory, memoryOf } from "../../core/host/mapped_memory.ts";
import { loadMpi, type Mpi } from "../../core/host/load_mpi.ts";
import { mpiRanks } from "../../core/ranks/mpi_ranks.ts";
import { sharedSum } from "../../core/ranks/shared_calls.ts";
import { openWindow, type SharedWindow } from "../../core/ranks/shared_window.ts";
import type { Group } from "../../core/ranks/survival.ts";

/** One value that goes by a message; all that make a MiB; not a multiple of anything. */
const SIZES = [1, 2 ** 18, 300_001];
/** A window that is smaller than these, and one of the usual size. */
const SMALL = 2 ** 19, USUAL = 2 ** 25;

const [what] = Deno.args, library = Deno.env.get("FIRN_MPI_LIBRARY")!;
// A rank has as many lanes as there are processors for it.
if (what === "lanes") Object.defineProperty(navigator, "hardwareConcurrency", { value: 12 });
const mpi = hosted(loadMpi(library)), { call, constants: { world } } = mpi;
/** What adds up, after which all end; of the others some wait in vain. */
const ADDS: Record<string, (() => Promise<void>) | undefined> = { sums, lanes: byLanes, hosts: byHosts };
const adds = ADDS[what],
  ranks = mpiRanks(mpi, { seconds: adds === undefined ? 1.5 : 60 }),
  { rank, size } = ranks;
const all: Group = { handle: world, rank, size };

/** MPI as it is, or as if each two ranks were on a host. */
function hosted(mpi: Mpi): Mpi {
  if (what !== "hosts") return mpi;
  const split = { parameters: ["usize", "i32", "i32", "buffer"], result: "i32" } as const;
  const { symbols } = Deno.dlopen(library, { MPI_Comm_split: split });
  const MPI_Comm_split_type: Mpi["call"]["MPI_Comm_split_type"] = (comm, _type, key, _info, made) =>
    symbols.MPI_Comm_split(comm, Math.floor(key / 2), key, made);
  return { ...mpi, call: { ...mpi.call, MPI_Comm_split_type } };
}

function say(text: string): void {
  if (rank === 0) console.log(text);
}

function check(what: string, code: number): void {
  assertEquals(code, 0, what);
}

/** Values of a rank, whose sums depend on their order; few are whole numbers, as MPI adds them up in an order of its own. */
function valuesOf(items: number, rank: number): Float32Array {
  if (items < 100) return new Float32Array(items).map((_, i) => 3 * i + rank);
  let state = 12_345 + rank;
  return new Float32Array(items).map(() =>
    (state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0) / 2 ** 31
  );
}

function added(parts: readonly Float32Array[]): Float32Array {
  const sums = parts[0].slice();
  for (const part of parts.slice(1)) for (let i = 0; i < sums.length; i++) sums[i] += part[i];
  return sums;
}

/** Memory as it is shown to ranks of one host: the first bytes of it. */
function shownOf(values: Float32Array, seen = ranks.seenBytes!(values.byteLength)): MappedMemory {
  const { first, bytes } = memoryOf(values);
  return { first: first.subarray(0, seen), bytes };
}

/** Whether values have the same bits; it is told where they differ last. */
function assertSame<T extends Float32Array | Uint8Array>(values: T, expected: T, what: string): void {
  assertEquals(values.length, expected.length, what);
  let at = values.length - 1;
  while (at >= 0 && Object.is(values[at], expected[at])) at--;
  assert(at < 0, `${what}, rank ${rank}: ${values[at]} at ${at} of ${values.length}, not ${expected[at]}`);
}

/** Opens a window as if ranks were on some hosts. */
async function onHosts(hostOf: (rank: number) => number, own: Mpi = mpi): Promise<SharedWindow | null> {
  const handle = new BigUint64Array(1), number = new Int32Array(1);
  check("split", await mpi.window!.MPI_Comm_split(world, hostOf(rank), rank, handle));
  call.MPI_Comm_rank(handle[0], number);
  const ofHost = Array.from({ length: size }, (_, r) => hostOf(r)).filter((host) => host === hostOf(rank));
  const local: Group = { handle: handle[0], rank: number[0], size: ofHost.length };
  return await openWindow(own, { all, local, check, bytes: SMALL });
}

/** Values of all ranks, and their sums: those of a host first. */
function valuesAndSums(items: number, ofHost: number): { parts: Float32Array[]; expected: Float32Array } {
  const parts = Array.from({ length: size }, (_, r) => valuesOf(items, r));
  const hosts = Array.from({ length: size / ofHost }, (_, h) => parts.slice(h * ofHost, (h + 1) * ofHost));
  return { parts, expected: added(hosts.map(added)) };
}

/** Adds up values in place, and to other memory. */
async function bothSums(items: number, ofHost = size): Promise<void> {
  const { parts, expected } = valuesAndSums(items, ofHost);
  const place = parts[rank].slice(), into = new Float32Array(items);
  await ranks.sum(place);
  assertSame(place, expected, "sum");
  await ranks.sumMapped!(shownOf(parts[rank]), shownOf(into));
  assertSame(into, expected, "sumMapped");
}

/** What several threads of each rank add up and bring. */
async function byLanes(): Promise<void> {
  for (const items of [...SIZES, USUAL / 4 + 1001]) await bothSums(items);
  await atOnce();
  await moves();
}

/** What ranks of several hosts add up. */
async function byHosts(): Promise<void> {
  for (const items of SIZES) await bothSums(items, 2);
  // Messages between hosts need all of it.
  assertEquals(ranks.seenBytes!(USUAL), USUAL);
}

async function sums(): Promise<void> {
  for (const items of size === 2 ? [...SIZES, USUAL / 4 / size + 1001] : SIZES) await bothSums(items);
  await smallWindows();
  const refused = await onHosts((r) => Math.min(r, 1));
  if (size > 2) assertEquals(refused, null);
  await atOnce();
  await moves();
  await refusals();
}

/** Adds up values of some ranks by messages. */
async function across(data: Float32Array, group: bigint): Promise<void> {
  const { inPlace, float, sum } = mpi.constants;
  check("across", await call.MPI_Allreduce(inPlace, data, data.length, float, sum, group));
}

/** Sums that are asked for at a time, with other calls between them, end as if each had waited for those before. */
async function atOnce(): Promise<void> {
  const items = 2 ** 18 + 5, all = Array.from({ length: 6 }, () => new Float32Array(items));
  const made = all.map(async (values, i) => {
    values.fill(i + rank);
    await ranks.sum(values);
    // Others were asked for before these.
    await ranks.sumMapped!(shownOf(values.fill(1)), shownOf(values));
  });
  const few = ranks.gather(Uint8Array.of(rank)), last = Float32Array.of(1);
  await Promise.all([...made, few, ranks.sum(last)]);
  assertEquals([...await few, last[0]], [...Array.from({ length: size }, (_, r) => r), size]);
  for (const values of all) assertSame(values, new Float32Array(items).fill(size), "sums at once");
}

/** Other calls bring large bytes where they belong: parts that are whole lines or not, and as many as each rank has. */
async function moves(): Promise<void> {
  const bytesOf = (bytes: number, rank: number): Uint8Array =>
    new Uint8Array(bytes).map((_, i) => 7 * i + rank);
  const others = Array.from({ length: size }, (_, r) => r), part = Math.ceil(2 ** 20 / size) + 3;
  const all = others.map((r) => bytesOf(size * part, r));
  const parts = all.map((bytes) => bytes.subarray(rank * part, (rank + 1) * part));
  assertSame(await ranks.allToAll(all[rank]), joined(parts), "allToAll");
  const some = others.map((r) => bytesOf(r === 0 ? 0 : Math.ceil(2 ** 20 / (size - 1)) + r, r));
  assertSame(await ranks.gather(some[rank]), joined(some), "gather");
  await ranks.broadcast(all[rank], size - 1);
  assertSame(all[rank], bytesOf(size * part, size - 1), "broadcast");
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((bytes, { length }) => bytes + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Where one rank gets no memory, or the system has no room for it, none has a window. */
async function refusals(): Promise<void> {
  const window = mpi.window!, allocate = window.MPI_Win_allocate_shared;
  const refusing = {
    async MPI_Win_allocate_shared(...all: Parameters<typeof allocate>) {
      await allocate(...all);
      return 17;
    },
  };
  for (const own of [refusing, { statvfs: () => -1 }]) {
    const failing = rank === 1 ? { ...window, ...own } : window;
    assertEquals(await onHosts(() => 0, { ...mpi, window: failing as typeof window }), null);
  }
}

/** One host, and two hosts of two ranks, where each adds up its own first, through a window smaller than the data. */
async function smallWindows(): Promise<void> {
  const hosts = size === 4 ? 2 : 1, ofHost = size / hosts;
  const window = await onHosts((r) => Math.floor(r / ofHost));
  for (const items of SIZES) {
    const { parts, expected } = valuesAndSums(items, ofHost), into = new Float32Array(items);
    await sharedSum(window!, { across, data: memoryOf(parts[rank].slice()), sums: shownOf(into, 8) });
    assertSame(into, expected, "through a small window");
    await sharedSum(window!, { across, data: memoryOf(parts[rank]), sums: shownOf(parts[rank], 8) });
    assertSame(parts[rank], expected, "in place through a small window");
  }
  await window!.close();
}

/** Rank 1 does not come, and dies while the lanes of the others wait for it. */
async function waits(): Promise<void> {
  const data = new Float32Array(2 ** 20);
  await ranks.sum(data);
  if (rank === 1) {
    await new Promise((resolve) => setTimeout(resolve, 2500));
    Deno.kill(Deno.pid, "SIGKILL");
  }
  const { message } = await assertRejects(() => ranks.sum(data), RanksError);
  say(message);
  await new Promise((resolve) => setTimeout(resolve, 60_000));
}

/** Rank 1 comes so late that rank 0 has ended, while its lanes wait. */
async function ends(): Promise<void> {
  const data = new Float32Array(2 ** 20);
  await ranks.sum(data);
  if (rank === 1) await new Promise((resolve) => setTimeout(resolve, 60_000));
  const error: RanksError = await assertRejects(() => ranks.sum(data), RanksError);
  // The lanes are waited for by no other call, either.
  await assertRejects(() => ranks.close(), RanksError);
  if (what === "throws") throw error;
  say(error.message);
  Deno.exit(1);
}

if (adds === undefined) await (what === "dies" ? waits() : ends());
else {
  await adds();
  await ranks.close();
  say(`${size} ranks agree`);
}
