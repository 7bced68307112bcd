/**
 * What a step measures, and the row of the ring that it writes.
 *
 * @module
 */

import { InputError } from "../../errors.ts";
import { multiply } from "../../ops/arithmetic.ts";
import { broadcast, sumEach } from "../../ops/broadcast.ts";
import { equal, where } from "../../ops/comparison.ts";
import { concat, reshape } from "../../ops/movement.ts";
import { momentPath, type OptimizerStep } from "../../optim/optimizer.ts";
import type { SignalDefinition } from "../../policy.ts";
import { leaf, stepScalar, tensor } from "../../sources.ts";
import { sizeOf, type Spec } from "../../spec.ts";
import type { Tensor } from "../../tensor.ts";
import type { Leaves, Path } from "../../tree.ts";
import { ACTIVATION, ACTIVATION_TERMS } from "../freeze/built_in_signals.ts";
import { moduleOf } from "../freeze/components.ts";
import type { Column } from "../freeze/ring.ts";
import { leafTerms, momentFor, PREVIOUS_GRADIENT } from "../freeze/signals.ts";
import { ACCUMULATED_OUTPUTS, PREVIOUS } from "../state/specs.ts";
import type { Verdict } from "./loss_scaling.ts";
import type { StepOptions } from "./step_options.ts";
import { type Decision, lossReading } from "./verdict.ts";

/** The readings of a step: what each column of the ring holds, in order, and what is summed up for them. */
export interface StepReadings {
  readonly columns: readonly Column[];
  /** For columns of active parameters. */
  readonly active: readonly Tensor[];
  /** For those of probed parameters, which come after them. */
  readonly probed: readonly Tensor[];
  /** For those of outputs of components, which come last: f32 [columns], summed up; null without any. */
  readonly outputs: Tensor | null;
}

/** Whether a signal is measured of a parameter. */
function wants({ isMeasured }: StepOptions, { name }: SignalDefinition, path: Path): boolean {
  return isMeasured?.(name, path) ?? true;
}

/** Whether a step needs the gradient of a parameter that it probes: some signal is made of gradient and weight alone. */
export function isProbed(
  options: StepOptions,
  parameter: { readonly path: Path; readonly spec: Spec },
): boolean {
  return options.signals.some((signal) =>
    wants(options, signal, parameter.path) && leafTerms(signal, parameter)?.probes
  );
}

/** The readings of a step. */
export function readingsOf(
  options: StepOptions,
  { grads, probedGrads, step, leaves }: {
    readonly grads: Leaves;
    readonly probedGrads: Leaves;
    readonly step: OptimizerStep;
    /** Leaves of the state before the step. */
    readonly leaves: Leaves;
  },
): StepReadings {
  const { signals, optimizer, active: params, probed: watched = new Map() } = options;
  const columns: Column[] = [], active: Tensor[] = [], probed: Tensor[] = [];
  const forms = new Map<string, string>();
  /** A moment of a parameter: training sees to it that each has those that are measured. */
  const momentOf = (need: string, path: Path): Tensor => {
    const name = momentPath(momentFor(optimizer, need)!, path);
    return step.readings?.get(name) ?? step.state.get(name)!;
  };
  for (const [path, gradient] of [...grads, ...probedGrads]) {
    const weight = params.get(path) ?? watched.get(path)!, isActive = grads.has(path);
    for (const signal of signals) {
      if (!wants(options, signal, path)) continue;
      if (!isActive && !leafTerms(signal, { path, spec: weight })?.probes) continue;
      const { name, needs, finite = false } = signal;
      const moments = needs.filter((need) => need !== PREVIOUS_GRADIENT);
      // What is probed has neither update nor moments, and nothing that is measured of it reads them.
      const terms = signal.terms({
        path,
        weight,
        gradient,
        update: step.updates.get(path) ?? gradient,
        previousGradient: leaves.get(PREVIOUS + path) ?? gradient,
        moments: Object.fromEntries(
          moments.map((need) => [need, isActive ? momentOf(need, path) : gradient]),
        ),
      });
      if (terms === null) continue;
      const { sums, ...rest } = terms;
      checkForm(forms, { name, path, terms: rest });
      (isActive ? active : probed).push(...sums);
      const size = sizeOf(weight.shape);
      columns.push(...sums.map((_, term) => ({ signal: name, path, size, terms: rest, term, finite })));
    }
  }
  const measured = measuredOutputs(options);
  for (const { path, size } of measured) {
    columns.push({ signal: ACTIVATION, path, size, terms: ACTIVATION_TERMS, term: 0, finite: false });
  }
  const outputs = measured.length === 0
    ? null
    : options.accumulated
    ? leaf(ACCUMULATED_OUTPUTS, { shape: [measured.length], dtype: "f32" })
    : sumsOfOutputs(measured);
  return { columns, active, probed, outputs };
}

/** Refuses a signal whose numbers of two parameters of a component do not go together. */
function checkForm(
  forms: Map<string, string>,
  { name, path, terms: { form, joins } }: {
    readonly name: string;
    readonly path: Path;
    readonly terms: Column["terms"];
  },
): void {
  const component = moduleOf(path), key = `${name} of ${component}`, before = forms.get(key);
  forms.set(key, form);
  if (before === undefined || before === form && !joins.includes(null)) return;
  throw new InputError(
    `Cannot measure "${name}" of "${component}" as its parameters count as one vector: "measure" must make the same of ` +
      `the sums and maxima of each, and not so of "${path}"; return null for those that do not count`,
  );
}

/** An output that a step measures, with the parameter that stands for its component. */
interface MeasuredOutput {
  readonly path: Path;
  readonly size: number;
  readonly output: Tensor;
}

/** The outputs that a step measures: those of components that are active or probed. */
export function measuredOutputs(options: StepOptions): readonly MeasuredOutput[] {
  const { outputs = new Map<Path, Tensor>(), signals, active, probed = new Map() } = options;
  const signal = signals.find(({ name }) => name === ACTIVATION);
  if (signal === undefined) return [];
  const found = new Map<Path, MeasuredOutput>();
  for (const path of [...active.keys(), ...probed.keys()]) {
    const component = moduleOf(path), output = outputs.get(component);
    if (output === undefined || found.has(component) || !wants(options, signal, path)) continue;
    found.set(component, { path, size: sizeOf(output.shape), output });
  }
  return [...found.values()];
}

/** The sums of the squares of outputs, f32 [N]. */
export function sumsOfOutputs(measured: readonly Pick<MeasuredOutput, "output">[]): Tensor {
  return sumEach(measured.map(({ output }) => multiply(output, output)));
}

/** The ring after a step: one row is replaced, in place. */
export function nextRing(
  ring: Tensor,
  { loss, metrics, clip, verdict, readings: { active, probed, outputs } }: {
    readonly loss: Tensor;
    readonly metrics: readonly Tensor[];
    /** What clipped the gradients; undefined where nothing does. */
    readonly clip: Tensor | undefined;
    readonly verdict: Verdict | Decision | null;
    readonly readings: StepReadings;
  },
): Tensor {
  const [rows, width] = ring.shape;
  const judged = verdict === null
    ? [loss]
    : "overflow" in verdict
    ? [loss, verdict.overflow]
    : [lossReading(verdict, loss)];
  const first = [...judged, ...metrics], now = [...first, ...clip ? [clip] : [], ...active];
  // Gradients of probed parameters come last, as these are below the active ones. One sum of all readings would wait for
  // them, in a launch of its own. Outputs are summed up by themselves for the same reason: they are there before.
  const parts = [now, probed].filter((part) => part.length > 0);
  const length = parts.reduce((n, part) => n + part.length, outputs?.shape[0] ?? 0);
  const pieces = parts.map((part, i) =>
    sumEach(part, i === parts.length - 1 && outputs === null ? { size: part.length + width - length } : {})
  );
  if (outputs !== null) {
    pieces.push(outputs);
    if (length < width) pieces.push(tensor(new Float32Array(width - length)));
  }
  const sums = pieces.length === 1 ? pieces[0] : concat(pieces, 0);
  const row = verdict?.readings(sums, first.length) ?? sums;
  const numbers = tensor(Float32Array.from({ length: rows }, (_, i) => i), [rows, 1]);
  const here = equal(numbers, stepScalar((step) => (step - 1) % rows));
  return where(here, broadcast(reshape(row, [1, width]), ring.shape), ring);
}
