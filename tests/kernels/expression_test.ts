import { assert, assertEquals } from "@std/assert";
import { render } from "../../kernels/expression.ts";

Deno.test("render reads constants that are not finite from variables: WGSL refuses such constants", () => {
  for (const [value, bits] of [[Infinity, 0x7f800000], [-Infinity, 0xff800000], [1e39, 0x7f800000]]) {
    const { body } = render({ shape: [8], inputs: [], steps: [{ kind: "constant", value }] }, { lanes: 4 });
    const [, name] = body("i").match(new RegExp(`var (\\w+) = ${bits}u;`))!;
    assert(body("i").includes(`bitcast<f32>(${name})`));
  }
  const { body } = render({ shape: [8], inputs: [], steps: [{ kind: "constant", value: 2.5 }] }, {
    lanes: 1,
  });
  assertEquals(body("i"), "let v0 = f32(2.5f);");
});
