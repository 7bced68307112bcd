import { assertEquals } from "@std/assert";
import { collector } from "./collect.ts";

Deno.test("what nobody holds is collected within the call", async () => {
  const held = { one: {} as object | null }, weak = new WeakRef(held.one!);
  // A weak reference holds its object until the turn ends.
  await new Promise((resolve) => setTimeout(resolve, 0));
  held.one = null;
  collector()();
  assertEquals(weak.deref(), undefined);
});
