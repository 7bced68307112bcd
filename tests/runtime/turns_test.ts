import { assert, assertEquals, assertRejects } from "@std/assert";
import { turning } from "../../core/runtime/turns.ts";

/** What an addon promises is settled in a later turn of the event loop. */
function later<T>(value: T): Promise<T> {
  return new Promise((resolve) => setTimeout(() => resolve(value), 20));
}

Deno.test("turning keeps the event loop turning while an addon's promise is open, and gives its value", async () => {
  let turns = 0;
  const made = MessageChannel;
  globalThis.MessageChannel = class extends made {
    constructor() {
      super();
      turns++;
    }
  };
  try {
    assertEquals(await turning({ source: { api: {} } }, later(7)), 7);
    assert(turns > 1, `${turns} turns`);
    turns = 0;
    assertEquals(await turning({ source: { api: navigator.gpu } }, later(8)), 8);
    assertEquals(turns, 0);
  } finally {
    globalThis.MessageChannel = made;
  }
});

Deno.test("turning rejects as the promise does", async () => {
  const refused = new Promise((_, reject) => setTimeout(() => reject(new RangeError("lost")), 5));
  await assertRejects(() => turning({ source: { api: {} } }, refused), RangeError, "lost");
});
