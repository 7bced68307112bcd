/**
 * The steps of commands that write a model but no run: their progress and, where it is asked for, a folder with their log, from
 * which they can be watched, explained and compared.
 *
 * @module
 */

import {
  flatten,
  type Gpu,
  read,
  readAll,
  scan,
  tensor,
  type TensorTree,
  type Training,
  type TrainingState,
  unflatten,
} from "@firn/train";
import { hostFileSystem, lockFolder } from "@firn/train/data";
import {
  bytesText,
  freezeText,
  logged,
  openLog,
  type Quality,
  renderReport,
  reportOf,
  type RunLog,
  type StartLine,
} from "@firn/train/report";
import type { RunEvaluations } from "./evaluation_run.ts";
import type { Joined } from "./ranks.ts";
import { type Flag, text, topic, UsageError, type Values } from "./flags.ts";
import { type Choice, providerOf } from "./gpu.ts";
import { loggerOf, OBSERVE_FLAGS } from "./observe_flags.ts";
import { claimFolder } from "./output.ts";
import { print } from "./print.ts";
import { endedText, frozenText, progress, rateText } from "./progress.ts";
import { watchedRun } from "./watched.ts";

/** Flags about how these steps are observed. */
export const STEP_FLAGS: typeof OBSERVE_FLAGS & { readonly log: Flag<string | null> } = {
  ...OBSERVE_FLAGS,
  ...topic("observing", {
    log: text("DIR", "folder, new or empty, for metrics.jsonl and report.html; none when absent", null),
  }),
};

/** Values of {@link STEP_FLAGS}. */
export type StepFlags = Values<typeof STEP_FLAGS>;

/** Refuses flags that show a log where there is none, and those of a device that would do nothing. */
export function checkSteps(flags: Pick<StepFlags, "log" | "watch" | "tensorboard"> & Choice): void {
  const { log, watch, tensorboard } = flags;
  providerOf(flags);
  const shows = watch !== null ? "--watch" : tensorboard ? "--tensorboard" : null;
  if (log === null && shows !== null) throw new UsageError(`${shows} shows a log: add --log DIR`);
}

/** The weights that are judged and saved: those of the state, or averages of them, which stay after this. */
async function keptWeights<P extends TensorTree, B extends TensorTree>(
  gpu: Gpu,
  { training, state }: { readonly training: Training<P, B>; readonly state: TrainingState<P> },
): Promise<P> {
  const own = flatten(state.params);
  return await training.withWeights(state, async (weights) => {
    const others = [...flatten(weights)].filter(([path, t]) => t !== own.get(path));
    const values = await readAll(gpu, others.map(([, t]) => t));
    const copies = others.map(([path, { shape }], i) => [path, tensor(values[i], shape)] as const);
    return unflatten(new Map([...own, ...copies])) as P;
  });
}

/** Steps that are to be taken, and their log. */
export interface Steps extends AsyncDisposable {
  /** Takes all steps; returns the last state. `tokens`: those of a batch, where they are counted. */
  take<P extends TensorTree, B extends TensorTree>(
    training: Training<P, B>,
    options: {
      readonly params: P;
      readonly batches: Iterable<B> | AsyncIterable<B>;
      readonly steps: number;
      readonly tokens?: number;
      /** Evaluations while it trains. */
      readonly evaluations?: RunEvaluations<P>;
    },
  ): Promise<TrainingState<P>>;
  /** Ends the log, with what the model is then, and writes the report. */
  finish(after: Quality): Promise<void>;
}

/**
 * Prepares the steps of a command.
 *
 * @param gpu The device
 * @param options `flags`: how they are observed; `config`: what the log says of them; `joined`: this process among those
 * that train together, of which rank 0 alone logs
 * @returns The steps; the log, if there is one, is locked and its page served until they are disposed of
 * @throws {AlreadyExistsError} When the folder of the log holds something
 */
export async function openSteps(
  gpu: Gpu,
  { flags, config, joined }: {
    readonly flags: StepFlags;
    readonly config: StartLine["config"];
    readonly joined?: Joined | null;
  },
): Promise<Steps> {
  await using stack = new AsyncDisposableStack();
  const place = flags.log === null || joined?.follows
    ? null
    : await claimFolder(flags.log, { resumed: false, name: "--log" });
  let log: RunLog | undefined;
  if (place !== null) {
    stack.use(await lockFolder(place));
    log = await openLog(`${place}/metrics.jsonl`, { logger: loggerOf(flags, { folder: place, from: 0 }) });
    if (flags.watch !== null) {
      const { url } = stack.use(await watchedRun(`${place}/metrics.jsonl`, { port: flags.watch }));
      print(`watching    ${url}`);
    }
    await log.add([{ kind: "start", config, adapter: gpu.name }]);
  }
  let ending: TrainingState<object>["ending"] = null;
  const held = stack.move();
  return {
    async take(training, { params, batches, steps, tokens, evaluations }) {
      const bar = progress(steps, { display: flags.progress });
      bar.update(0, ["compiling the training step"]);
      let state = await training.init(params), apart = 0, clockAt = performance.now(), looked = 0;
      const states = scan(training, state, batches), memory = (): number => gpu.counts.bytes;
      for await (state of logged(states, { log, training, tokens, memory, apart: () => apart })) {
        if (state.look === null) bar.move(state.step);
        else {
          const now = performance.now() - apart, pace = rateText((now - clockAt) / (state.step - looked));
          [clockAt, looked] = [now, state.step];
          const frozen = state.frozen.length > 0 ? [frozenText(training, state)] : [];
          bar.update(state.step, [`loss ${state.look.loss.at(-1)!.toFixed(3)}`, pace, ...frozen]);
        }
        if (state.event !== null) bar.say(freezeText(state.event));
        if (state.rolledBack !== undefined) {
          bar.say(`step ${state.rolledBack.from}: back to step ${state.step}: ${state.rolledBack.why}`);
        }
        if (!evaluations?.due(state.step)) continue;
        // Steps are queued: an evaluation would wait for them, and their time is theirs.
        await read(gpu, state.loss!);
        const from = performance.now(), stop = await evaluations.after(state, { log, say: bar.say });
        apart += performance.now() - from;
        if (stop) break;
      }
      bar.end();
      const sent = state.cost?.exchanged;
      if (sent !== undefined) print(`exchanged   ${bytesText(sent)} a step by each rank`);
      const { saved, told } = await evaluations?.finish(state) ?? { saved: state, told: state };
      ending = told.ending;
      if (told.step < steps) print(endedText(told, steps));
      return { ...saved, params: await keptWeights(gpu, { training, state: saved }) };
    },
    async finish(after) {
      if (log === undefined) return;
      await log.add([{ kind: "end", ...after, ...ending && { ending } }]);
      await hostFileSystem().write(`${place}/report.html`, await renderReport(reportOf(log.lines)));
      print(`${"log".padEnd(15)} ${place}/metrics.jsonl, report.html`);
    },
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}
