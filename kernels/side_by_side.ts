/**
 * Several kernels as one launch: each gets some of its workgroups. Small kernels that do not depend on each other then share
 * the device, and the cost of a launch.
 *
 * @module
 */

import { foldGrid, GROUP_INDEX, type Kernel } from "./kernel.ts";
import { type Binding, renamed, type TextParts, textParts } from "./text_parts.ts";

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

/** Workgroup memory of several kernels. Arrays of one type are shared, as only one of the kernels runs in a workgroup. */
interface SharedMemory {
  readonly types: readonly string[];
  /** For each kernel the place of each of its arrays. */
  readonly places: readonly (readonly number[])[];
}

function sharedMemory(memories: readonly (readonly string[])[]): SharedMemory {
  const types: string[] = [];
  const places = memories.map((memory) => {
    const taken = new Set<number>();
    return memory.map((type) => {
      let place = types.findIndex((other, i) => other === type && !taken.has(i));
      if (place < 0) place = types.push(type) - 1;
      taken.add(place);
      return place;
    });
  });
  return { types, places };
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
  const memory = sharedMemory(
    parts.map((part, k) => part.memory.map(({ type }) => renamed(type, structNames[k]))),
  );
  const functions = parts.map((part, k) => {
    const names = new Map([
      ...part.names.map((name) => [name, `${name}_${k}`] as const),
      ...part.bindings.map(({ name }, i) => [name, `bound_${shared.places[k][i]}`] as const),
      ...part.memory.map(({ name }, i) => [name, `memory_${memory.places[k][i]}`] as const),
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
    ...memory.types.map((type, i) => `var<workgroup> memory_${i}: ${type};`),
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
