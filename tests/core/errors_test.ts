import { assert, assertEquals } from "@std/assert";
import {
  ConsumedError,
  DeviceLostError,
  FirnError,
  InputError,
  NonFiniteError,
  OutOfMemoryError,
  ShapeError,
} from "@firn/train";

Deno.test("ShapeError is a InputError that names operation, rule and shapes", () => {
  const error = new ShapeError("matmul", "inner sizes must be equal", [[2, 3], []]);
  assert(error instanceof InputError);
  assertEquals(
    `${error}`,
    'ShapeError: Cannot apply "matmul" as inner sizes must be equal: got [2, 3] and []',
  );
});

Deno.test("ConsumedError names both steps and how to keep a state", () => {
  const error = new ConsumedError(3, 4);
  assertEquals(
    `${error}`,
    "ConsumedError: Cannot use the state of step 3 as step 4 consumed it: " +
      "keep the state that next() returned, or take a snapshot(gpu, state) before the step",
  );
  assertEquals([error.producedAt, error.consumedBy], [3, 4]);
});

Deno.test("OutOfMemoryError names the buffer and its size in MiB", () => {
  const error = new OutOfMemoryError("layer.weight", 3 * 2 ** 19, "the driver refused");
  assertEquals(
    `${error}`,
    'OutOfMemoryError: Cannot allocate "layer.weight" of 1.5 MiB on the device: the driver refused; ' +
      "lower the batch or its length, or use a larger device",
  );
  assertEquals([error.label, error.bytes], ["layer.weight", 3 * 2 ** 19]);
});

Deno.test("NonFiniteError names the step and what to try", () => {
  const error = new NonFiniteError("loss", 7, NaN);
  assertEquals(
    `${error}`,
    "NonFiniteError: Cannot go on training as the loss of step 7 is NaN: " +
      "go back to a checkpoint and lower the learning rate, clip gradients, or look at the batch of that step",
  );
  assertEquals(error.step, 7);
});

Deno.test("errors print their class", () => {
  assertEquals(`${new DeviceLostError("gone")}`, "DeviceLostError: gone");
});

Deno.test("a message stays on one line and steers no terminal, whatever it quotes", () => {
  const seen = "a\n\x1b[31mred\x1b[0m\x07\x9b2J\u202eb \u{1f40b}";
  for (
    const error of [new FirnError(seen), new ShapeError(seen, seen, []), new NonFiniteError(seen, 1, NaN)]
  ) {
    // deno-lint-ignore no-control-regex
    assertEquals(/[\x00-\x1f\x7f-\x9f\u202a-\u202e]/.test(error.message), false);
    assert(
      error.message.includes("a\\n\\u001b[31mred\\u001b[0m\\u0007\\u009b2J\\u202eb \u{1f40b}"),
      error.message,
    );
  }
});
