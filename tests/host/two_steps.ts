/**
 * Trains two steps, as a program without any permission can.
 *
 * @module
 */

import { defineTraining, mean, multiply, openGpu, read, sgd, type Tensor, tensor } from "@firn/train";

await using gpu = await openGpu();
const training = defineTraining(gpu, ({ w }: { w: Tensor }) => mean(multiply(w, w)), {
  optimizer: sgd({ learningRate: 0.5 }),
  steps: 2,
});
let state = await training.init({ w: tensor([2, 4]) });
while (!state.done) state = await training.next(state, {});
console.log([...await read(gpu, state.params.w)].join(" "));
