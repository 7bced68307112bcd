/** Numbers that no optimizer could follow are refused where they are given. */

import { assertThrows } from "@std/assert";
import {
  adamW,
  clipByGlobalNorm,
  constantRate,
  cosine,
  defineTraining,
  type Gpu,
  InputError,
  linearRate,
  multiply,
  type Schedule,
  sgd,
  type Tensor,
} from "@firn/train";
import { adafactor, adam, adamW8bit, lion, muon, scheduleFreeAdamW, weightAverage } from "@firn/train/optim";

type Maker = (options: { readonly learningRate: number }) => unknown;
const ADAM = ["beta1", "beta2", "eps", "weightDecay"];
/** Options of optimizers that are numbers from 0. */
const NUMBERS: readonly (readonly [Maker, readonly string[]])[] = [
  [adamW, ADAM],
  [adam, ADAM],
  [adamW8bit, [...ADAM, "least"]],
  [scheduleFreeAdamW, ADAM],
  [sgd, ["momentum", "weightDecay"]],
  [lion, ["beta1", "beta2", "weightDecay"]],
  [adafactor, ["eps1", "eps2", "clip", "weightDecay"]],
  [muon, ["momentum", "weightDecay", "iterations"]],
];

Deno.test("optimizers, schedules and clipping refuse numbers that are none, or out of their range, by name", () => {
  const rate = 0.1;
  for (const wrong of [NaN, -1, Infinity, "0.1" as unknown as number]) {
    for (const optimizer of [adamW, sgd, adam, adamW8bit, lion, adafactor, muon, scheduleFreeAdamW]) {
      assertThrows(
        () => optimizer({ learningRate: wrong }),
        InputError,
        '"learningRate" must be a number from 0',
      );
    }
    for (const [optimizer, names] of NUMBERS) {
      for (const name of names) {
        const make = (): unknown => optimizer({ learningRate: rate, [name]: wrong });
        assertThrows(make, InputError, `"${name}" must be a number`);
      }
    }
    assertThrows(() => weightAverage(wrong), InputError, '"decay" must be a number');
    assertThrows(() => clipByGlobalNorm(wrong), InputError, "the limit must be a number above 0");
    assertThrows(() => constantRate({ peak: wrong }), InputError, '"peak" must be a number');
    for (const schedule of [cosine, linearRate]) {
      for (const name of ["peak", "warmup", "steps", "floor"]) {
        const options = { peak: rate, steps: 4, [name]: wrong };
        assertThrows(() => schedule(options), InputError, `"${name}" must be a number`);
      }
    }
  }
  assertThrows(() => sgd({ learningRate: rate, nesterov: true }), InputError, 'needs a "momentum" above 0');
  assertThrows(() => adafactor({ learningRate: rate, beta2Decay: 0 }), InputError, "must be below 0: got 0");
  assertThrows(() => muon({ learningRate: rate, iterations: 1.5 }), InputError, "must be a whole number");
  assertThrows(() => adamW({ learningRate: rate, beta2: 1 }), InputError, "from 0 and below 1: got 1");
  assertThrows(() => adamW(undefined!), InputError, "options must be a record: got undefined");
});

Deno.test("defineTraining refuses a schedule of one's own whose rates are no numbers, and names the first step", () => {
  const define = (learningRate: Schedule) => () =>
    defineTraining({} as Gpu, ({ w }: { w: Tensor }) => multiply(w, w), {
      optimizer: sgd({ learningRate }),
      steps: 4,
    });
  const rule = "learning rates must be numbers from 0: that of step 3 is";
  assertThrows(define((step) => step < 3 ? 1 : NaN), InputError, `${rule} NaN`);
  assertThrows(define((step) => step < 3 ? 1 : -1), InputError, `${rule} -1`);
});
