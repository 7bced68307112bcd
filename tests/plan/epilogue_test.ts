/**
 * What the kernel of a product computes as it stores.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { leaf, type Tensor } from "@firn/train";
import { add, matmul, reshape, tanh } from "@firn/train/ops";
import { plan } from "../../core/plan/plan.ts";

const target = { software: false, subgroups: true, workgroupBytes: 16384, maxBindings: 8 };
const input = (path: string, shape: readonly number[]): Tensor => leaf(path, { shape, dtype: "f32" });
const product = (): Tensor => matmul(input("a", [4, 4]), input("b", [4, 4]));

Deno.test("plan binds eight buffers at most behind a product that reads vectors both as rows and as columns", () => {
  let value = product();
  for (const path of ["u", "v", "w"]) {
    const vector = input(path, [4]);
    value = add(add(value, vector), reshape(vector, [4, 1]));
  }
  const { launches } = plan([value], { target });
  assert(launches.every(({ bindings }) => bindings.length <= 8));
  assertEquals(launches.length, 2);
});

Deno.test("plan walks values behind a product once each, however many paths lead to them", () => {
  let value = product();
  for (let i = 0; i < 60; i++) value = add(value, tanh(value));
  assertEquals(plan([value], { target }).launches.length, 1);
});
