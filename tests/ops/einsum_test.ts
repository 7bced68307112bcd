import { assertEquals, assertThrows } from "@std/assert";
import { fill, grad, InputError, leaf, sum, type Tensor, tensor } from "@firn/train";
import { einsum, multiply } from "@firn/train/ops";
import { evaluate } from "../reference/evaluate.ts";
import { assertNear, at, build, random, slopes, type Values } from "../reference/values.ts";

const SIZES: Readonly<Record<string, number>> = { b: 2, h: 3, i: 5, j: 4, k: 3, l: 2, m: 1 };

/** The sum over all values of all letters. */
function total(equation: string, all: readonly Values[]): Values {
  const [left, result] = equation.split("->"), terms = left.split(",");
  const letters = [...new Set(left.replaceAll(",", ""))];
  const out = build([...result].map((label) => SIZES[label]), () => 0);
  build(letters.map((label) => SIZES[label]), (place) => {
    const of = (labels: string): number[] => [...labels].map((label) => place[letters.indexOf(label)]);
    const value = terms.reduce((product, labels, n) => product * at(all[n], of(labels)), 1);
    out.data[of(result).reduce((n, p, d) => n * out.shape[d] + p, 0)] += value;
    return value;
  });
  return out;
}

const EQUATIONS = [
  "ij,jk->ik",
  "ji,jk->ik",
  "ij,kj->ki",
  "bhij,bhkj->bhik",
  "bihj,bkhj->bhik",
  "bij,kj->bik",
  "ij->ji",
  "ij->",
  "ij->j",
  "i,j->ij",
  "bi,bi->b",
  "bi,bi->ib",
  "bij,bij->bij",
  "ij,jk,kl->il",
  "ij,jk,kl->",
  "ii->i",
  "iij->j",
  "ii->",
  "ijm,mjk->ik",
  "bi,b,i->i",
  ",ij->ij",
];

/** Tensors of the axes that an equation names, as leaves and as values. */
function inputsOf(equation: string): readonly [Tensor[], Values[]] {
  const shapes = equation.split("->")[0].split(",").map((term) => [...term].map((label) => SIZES[label]));
  return [
    shapes.map((shape, i) => leaf(`${i}`, { shape, dtype: "f32" })),
    shapes.map((shape, i) => random(shape, { seed: i + 1 })),
  ];
}

for (const equation of EQUATIONS) {
  Deno.test(`einsum ${equation} and its gradients in float64`, () => {
    const [leaves, values] = inputsOf(equation), y = einsum(equation, leaves);
    const weights = random(y.shape, { seed: 9, low: 0.5 });
    const factor = tensor(Float32Array.from(weights.data), y.shape);
    const roots = [y, ...grad(sum(multiply(y, factor)), leaves)];
    const known = new Map(values.map((x, i) => [`${i}`, x]));
    const [seen, ...gradients] = evaluate(roots, known), expected = total(equation, values);
    assertEquals(seen.shape, expected.shape);
    assertNear(seen.data, expected.data, { tolerance: 1e-12, what: "the output" });
    const loss = (all: readonly Values[]): number =>
      total(equation, all).data.reduce((n, v, i) => n + v * weights.data[i], 0);
    values.forEach(({ data }, index) => {
      const slope = slopes(loss, { inputs: values, index, elements: [...data.keys()] });
      assertNear(gradients[index].data, slope, { tolerance: 1e-8, what: `the gradient by input ${index}` });
    });
  });
}

Deno.test("einsum without an arrow has the letters that stand once, in alphabetic order", () => {
  const [leaves, values] = inputsOf("kj,ji");
  const [seen] = evaluate([einsum("kj, ji", leaves)], new Map(values.map((x, i) => [`${i}`, x])));
  assertNear(seen.data, total("kj,ji->ik", values).data, { tolerance: 1e-12, what: "the output" });
});

Deno.test("einsum refuses equations and shapes that do not fit, by name", () => {
  const x = fill(1, [2, 3]);
  const refuses = (equation: string, tensors: (typeof x)[], text: string): void => {
    assertThrows(() => einsum(equation, tensors), InputError, text);
  };
  refuses("ij->ik", [x], '"k" behind the arrow must be an axis of a tensor');
  refuses("ij->ii", [x], "a letter must stand once behind the arrow");
  refuses("i...->i", [x], "... is not read");
  refuses("ij,jk", [x], "it must name the axes of 1 tensor");
  refuses("i1->i", [x], "letters, commas and one arrow");
  refuses("i->j->k", [x], "letters, commas and one arrow");
  refuses("ijk->i", [x], '"ijk" must name the axes of a tensor');
  refuses("ij,ij->ij", [x, fill(1, [3, 2])], '"i" must stand for one size, not 2 and 3');
});
