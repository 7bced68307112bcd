/**
 * Evaluations of a run that goes on.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { defineTraining, multiply, sgd, sum, type Tensor, tensor, type TrainingState } from "@firn/train";
import { lossMetrics } from "@firn/train/evaluation";
import type { Line } from "@firn/train/report";
import { type BestStore, runEvaluations } from "../../examples/evaluation_run.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const evaluation = (step: number, loss: number): Line => ({
  kind: "evaluation",
  step,
  set: "held-out",
  metrics: { loss },
});

Deno.test("a run that was interrupted once it was to end early ends as it would have, with its best state", async () => {
  await using gpu = await openTestGpu();
  const loss = ({ w }: { w: Tensor }, { x }: { x: Tensor }): Tensor => sum(multiply(w, x));
  using training = defineTraining(gpu, loss, { optimizer: sgd({ learningRate: 1 }), steps: 9 });
  const [best, last] = [
    await training.init({ w: tensor([1]) }),
    { ...await training.init({ w: tensor([2]) }), step: 4 },
  ];
  const store: BestStore<{ w: Tensor }> = {
    keep: () => Promise.resolve(),
    step: () => Promise.resolve(2),
    take: () => Promise.resolve(best),
  };
  const flags = { "evaluate-every": 1, best: "loss", "stop-after": 2, "min-delta": 0, steps: 9 };
  const made = () =>
    runEvaluations(gpu, {
      training,
      flags,
      sets: { "held-out": [{ x: tensor([1]) }] },
      metrics: lossMetrics(loss),
      store,
    })!;
  // Preferences are judged before the first step, too: no state is kept of that.
  const lines = [evaluation(0, 1), evaluation(1, 3), evaluation(2, 2), evaluation(3, 2)];
  assertEquals(made().begin(lines), false);
  const evaluations = made();
  assertEquals(evaluations.begin([...lines, evaluation(4, 2)]), true);
  const { saved, told } = await evaluations.finish(last as TrainingState<{ w: Tensor }>);
  assertEquals([saved === best, told.ending], [true, { best: 2, reason: "stopped", step: 4 }]);
  // The file has the state of another step: of an attempt that was given up when the run was resumed.
  const other = made(), end = { ...last, ending: { best: null, reason: "stopped", step: 4 } } as const;
  other.begin([evaluation(1, 1), evaluation(2, 2), evaluation(3, 2)]);
  const finished = await other.finish(end as TrainingState<{ w: Tensor }>);
  assertEquals([finished.saved === end, finished.told.ending], [true, end.ending]);
});
