import { assert } from "@std/assert";
import { families } from "@firn/train/models";

Deno.test("the README lists the families of the table, in its order", async () => {
  const text = (await Deno.readTextFile(`${import.meta.dirname}/../../README.md`)).replace(/\s+/g, " ");
  const titles = new Set(Object.values(families).map(({ name, title = name }) => title));
  const list = `Families: ${[...titles].join(", ")}.`;
  assert(text.includes(list), `README must have: ${list}`);
});
