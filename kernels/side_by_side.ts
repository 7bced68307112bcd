/**
 * Several kernels as one launch: each gets some of its workgroups. Small kernels that do not depend on each other then share
 * the device, and the cost of a launch.
 *
 * @module
 */

import { foldGrid, GROUP_INDEX, type Kernel } from "./kernel.ts";
import {
  type ArrayType,
  arrayType,
  type Binding,
  bytesOfArray,
  renamed,
  type TextParts,
  textParts,
} from "./text_parts.ts";

/** A kernel, and its buffers in the order of its bindings. */
export interface BoundText {
  readonly kernel: Kernel;
  /** Numbers of buffers; equal ones are the same buffer. */
  readonly bindings: readonly number[];
}

/** The buffers of a launch of several kernels. */
export interface SharedBindings {
  /** In the order of bindings. */
  readonly buffers: readonly number[];
  readonly declared: readonly Binding[];
  /** For each kernel the index of each of its bindings. */
  readonly places: readonly (readonly number[])[];
}

/**
 * Finds the bindings of a launch of several kernels: a buffer that some only read, and as the same type, is bound once.
 *
 * @param parts The kernels
 * @param buffers The buffers of each
 * @returns The bindings
 */
export function sharedBindings(
  parts: readonly Pick<TextParts, "bindings">[],
  buffers: readonly (readonly number[])[],
): SharedBindings {
  const all: number[] = [], declared: Binding[] = [], known = new Map<string, number>();
  const places = parts.map(({ bindings }, k) =>
    bindings.map(({ access, type }, i) => {
      const key = `${buffers[k][i]} ${type}`;
      if (access === "read" && known.has(key)) return known.get(key)!;
      const place = all.push(buffers[k][i]) - 1;
      declared.push({ access, type, name: `bound_${place}` });
      if (access === "read") known.set(key, place);
      return place;
    })
  );
  return { buffers: all, declared, places };
}

/** Arrays in workgroup memory, and which of them each array of a kernel is. */
interface SharedMemory {
  readonly arrays: readonly ArrayType[];
  readonly places: readonly number[];
}

/**
 * Finds workgroup memory for one more kernel of a launch. Arrays of one element are shared, as large as the largest needs it:
 * only one of the kernels runs in a workgroup.
 *
 * @param known The arrays of the other kernels
 * @param own Those of the kernel
 * @returns All arrays
 */
export function sharedMemory(known: readonly ArrayType[], own: readonly ArrayType[]): SharedMemory {
  const arrays = [...known], taken = new Set<number>();
  const places = own.map((array) => {
    let place = arrays.length, least = bytesOfArray(array), result = array;
    known.forEach((other, i) => {
      if (taken.has(i) || other.element !== array.element || other.sizes.length !== array.sizes.length) {
        return;
      }
      const both = { ...other, sizes: other.sizes.map((size, d) => Math.max(size, array.sizes[d])) };
      const growth = bytesOfArray(both) - bytesOfArray(other);
      if (growth < least) [place, least, result] = [i, growth, both];
    });
    taken.add(place);
    arrays[place] = result;
    return place;
  });
  return { arrays, places };
}

/** Structs of several kernels, each once: their fields, and for each kernel its names for them. */
function sharedStructs(
  parts: readonly TextParts[],
): { readonly structs: readonly string[]; readonly names: readonly ReadonlyMap<string, string>[] } {
  const structs: string[] = [];
  const names = parts.map((part) =>
    new Map(part.structs.map(({ name, fields }) => {
      let place = structs.indexOf(fields);
      if (place < 0) place = structs.push(fields) - 1;
      return [name, `Struct${place}`];
    }))
  );
  return { structs, names };
}

/**
 * One kernel that does the work of several. None of them may write what another one binds.
 *
 * @param kernels The kernels, and their buffers
 * @returns The kernel, and its buffers
 * @throws {RangeError} When texts have another form, or workgroups differ in size
 */
export function sideBySide(kernels: readonly BoundText[]): BoundText {
  const parts = kernels.map(({ kernel: { code } }) => textParts(code)).filter((part) => part !== null);
  if (parts.length < kernels.length || parts.some(({ threads }) => `${threads}` !== `${parts[0].threads}`)) {
    const names = kernels.map(({ kernel: { name } }) => `"${name}"`).join(" and ");
    throw new RangeError(`Cannot launch ${names} side by side as their workgroups or texts differ in form`);
  }
  const shared = sharedBindings(parts, kernels.map(({ bindings }) => bindings));
  const { structs, names: structNames } = sharedStructs(parts);
  let arrays: readonly ArrayType[] = [];
  const memory = parts.map((part) => {
    const all = sharedMemory(arrays, part.memory.map(({ type }) => arrayType(type, part.structs)));
    arrays = all.arrays;
    return all.places;
  });
  const functions = parts.map((part, k) => {
    const names = new Map([
      ...part.names.map((name) => [name, `${name}_${k}`] as const),
      ...part.bindings.map(({ name }, i) => [name, `bound_${shared.places[k][i]}`] as const),
      ...part.memory.map(({ name }, i) => [name, `memory_${memory[k][i]}`] as const),
      ...structNames[k],
    ]);
    const parameters = part.parameters.map(({ name, type }) => `${name}: ${type}`).join(", ");
    return `${renamed(part.functions, names)}
fn main_${k}(${parameters}) {\n${renamed(part.body, names)}\n}\n`;
  });
  const code = [
    ...new Set(parts.flatMap(({ directives }) => directives)),
    ...shared.declared.map(({ access, name, type }, i) =>
      `@group(0) @binding(${i}) var<storage, ${access}> ${name}: ${type};`
    ),
    ...structs.map((fields, i) => `struct Struct${i} { ${fields} }`),
    ...arrays.map((array, i) => `var<workgroup> memory_${i}: ${textOf(array, structs)};`),
    ...functions,
    mainOf(parts, kernels.map(({ kernel: { grid } }) => grid)),
  ].join("\n");
  const groups = kernels.reduce((n, { kernel: { grid: [x, y, z] } }) => n + x * y * z, 0);
  return {
    kernel: {
      name: kernels.map(({ kernel: { name } }) => name).join(" | "),
      code,
      grid: foldGrid(groups),
      flops: kernels.reduce((n, { kernel: { flops } }) => n + flops, 0),
    },
    bindings: shared.buffers,
  };
}

/** The WGSL of a type. */
function textOf({ element, sizes }: ArrayType, structs: readonly string[]): string {
  const type = structs.includes(element) ? `Struct${structs.indexOf(element)}` : element;
  return sizes.toReversed().reduce((inner, size) => `array<${inner}, ${size}>`, type);
}

/** Builtin values that depend on the grid, which is not the kernel's own; they are computed from others. */
const OF_THE_GRID = ["workgroup_id", "num_workgroups", "global_invocation_id"];

/** The entry point: the first workgroups run the first kernel, and so on. */
function mainOf(parts: readonly TextParts[], grids: readonly (readonly [number, number, number])[]): string {
  const [{ threads }] = parts, all = parts.flatMap(({ parameters }) => parameters);
  const passed = new Map(
    [
      { builtin: "workgroup_id", type: "vec3<u32>" },
      { builtin: "num_workgroups", type: "vec3<u32>" },
      ...all.filter(({ builtin }) => !OF_THE_GRID.includes(builtin)),
      ...all.filter(({ builtin }) => builtin === "global_invocation_id")
        .map(({ type }) => ({ builtin: "local_invocation_id", type })),
    ].map(({ builtin, type }) => [builtin, type]),
  );
  const argument = (builtin: string, [x, y, z]: readonly [number, number, number]): string => {
    if (builtin === "workgroup_id") return "group";
    if (builtin === "num_workgroups") return `vec3<u32>(${x}u, ${y}u, ${z}u)`;
    return builtin === "global_invocation_id"
      ? `group * vec3<u32>(${threads.map((n) => `${n}u`).join(", ")}) + in_local_invocation_id`
      : `in_${builtin}`;
  };
  let start = 0;
  const calls = parts.map(({ parameters }, k) => {
    const [x, y, z] = grids[k], from = start;
    start += x * y * z;
    return `if (at < ${start}u) {
let own = at - ${from}u;
let group = vec3<u32>(own % ${x}u, own / ${x}u % ${y}u, own / ${x * y}u);
main_${k}(${parameters.map(({ builtin }) => argument(builtin, grids[k])).join(", ")});
}`;
  });
  return `@compute @workgroup_size(${threads.join(", ")}) fn main(${
    [...passed].map(([builtin, type]) => `@builtin(${builtin}) in_${builtin}: ${type}`).join(", ")
  }) {
let wid = in_workgroup_id; let nwg = in_num_workgroups;
let at = ${GROUP_INDEX};
${calls.join(" else ")}
}
`;
}
