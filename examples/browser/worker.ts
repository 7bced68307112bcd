/**
 * The worker of the page: trains, so that the page stays responsive.
 *
 * @module
 */

import { FileError, FirnError, type Gpu, NotFoundError, openGpu } from "@firn/train";
import { loadCheckpoint } from "@firn/train/checkpoint";
import { type FileSystem, lockFolder, memoryFileSystem, opfsFileSystem } from "@firn/train/data";
import type { Ask, KeptRun, Tell } from "./messages.ts";
import { beginRun, type Run } from "./run.ts";
import { CHECKPOINT, forgetRun, keepFile, keepFiles, MODEL, RUN, textPath } from "./run_files.ts";
import type { RunRecord } from "./settings.ts";

/** The part of a worker's global scope that is used here. */
interface Scope {
  readonly isSecureContext: boolean;
  postMessage(message: Tell): void;
  onmessage: ((event: MessageEvent<Ask>) => void) | null;
}

/** The part of `navigator` that is used here; a browser may have less than it tells by its types. */
interface Site {
  readonly gpu?: unknown;
  readonly storage: { getDirectory(): Promise<unknown> };
}

/** Measurements of each adapter. */
const TUNING = "tune.json";

/** How often the folder of runs is asked for, ten times a second. */
const MOST_TRIES = 20;

const scope = globalThis as unknown as Scope;
const site = navigator as unknown as Site;

function tell(message: Tell): void {
  scope.postMessage(message);
}

/** Tells of a failure; one that a person cannot act on goes to the console, too. */
function tellFailure(error: unknown): void {
  const expected = error instanceof FirnError;
  if (!expected) console.error(error);
  tell({ kind: "error", message: error instanceof Error ? error.message : String(error), expected });
}

async function keptRun(fileSystem: FileSystem): Promise<KeptRun | null> {
  if (await fileSystem.stat(CHECKPOINT) === null) return null;
  const { step, extra } = await loadCheckpoint(CHECKPOINT, { fileSystem });
  return { record: extra as RunRecord, step };
}

/** Opens the GPU. What was measured on it is kept, so that it is measured once. */
async function openAdapter(fileSystem: FileSystem): Promise<Gpu> {
  return await openGpu({
    tuneCache: TUNING,
    fileSystem,
    onTune: ({ done, total }) =>
      tell({ kind: "status", text: `Measuring matrix products, once for this GPU: ${done} of ${total}` }),
  });
}

/** Does what the page asks, one thing at a time. */
function answering(opened: Gpu, fileSystem: FileSystem): (ask: Ask) => Promise<void> {
  let run: Run | null = null, gpu: Gpu | null = opened;
  async function end(): Promise<void> {
    await run?.[Symbol.asyncDispose]();
    run = null;
  }
  async function begin(record: RunRecord, resumed: boolean): Promise<void> {
    await end();
    gpu ??= await openAdapter(fileSystem);
    const current = gpu;
    run = beginRun(current, { record, resumed, fileSystem, base: import.meta.url, tell });
    run.ended.catch(async (error) => {
      tellFailure(error);
      // The device may be what failed.
      gpu = null;
      await current[Symbol.asyncDispose]();
      tell({ kind: "phase", phase: "failed" });
      tell({ kind: "kept", run: await keptRun(fileSystem) });
    });
  }
  return async (ask) => {
    switch (ask.kind) {
      case "start":
        tell({ kind: "phase", phase: "preparing" });
        await end();
        await forgetRun(fileSystem);
        await keepFile(ask.text, { path: textPath(ask.record.text), fileSystem });
        if (!ask.record.own) await keepFiles(ask.model, { path: MODEL, fileSystem });
        return await begin(ask.record, false);
      case "continue":
        return await begin((await keptRun(fileSystem))!.record, true);
      case "forget":
        await end();
        await forgetRun(fileSystem);
        tell({ kind: "phase", phase: "idle" });
        return tell({ kind: "kept", run: null });
      default:
        return run?.[ask.kind]();
    }
  };
}

/** Takes the folder of runs for this tab; returns why another has it. */
async function takeFolder(fileSystem: FileSystem): Promise<FileError | null> {
  for (let tries = 1;; tries++) {
    try {
      await lockFolder(RUN, { fileSystem });
      return null;
    } catch (error) {
      if (!(error instanceof FileError) || error.code !== "ELOCKED") throw error;
      if (tries === MOST_TRIES) return error;
    }
    // The page before this one may be ending.
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function open(): Promise<void> {
  if (!scope.isSecureContext) return tell({ kind: "missing", lack: "secure", detail: "" });
  if (site.gpu === undefined) return tell({ kind: "missing", lack: "webgpu", detail: "" });
  // A private window may have no files: a run then ends with the page, which says so.
  const lasting = await site.storage.getDirectory().then(() => true, () => false);
  const fileSystem = lasting ? opfsFileSystem() : memoryFileSystem();
  await fileSystem.makeFolder(RUN, { parents: true });
  const refusal = await takeFolder(fileSystem);
  if (refusal !== null) return tell({ kind: "missing", lack: "folder", detail: refusal.message });
  const gpu = await openAdapter(fileSystem);
  const answer = answering(gpu, fileSystem);
  let last = Promise.resolve();
  scope.onmessage = ({ data }) => void (last = last.then(() => answer(data)).catch(tellFailure));
  tell({ kind: "ready", adapter: gpu.name, software: gpu.software, lasting });
  tell({ kind: "kept", run: await keptRun(fileSystem) });
}

open().catch((error) => {
  if (!(error instanceof NotFoundError)) return tellFailure(error);
  tell({ kind: "missing", lack: "adapter", detail: error.message });
});
