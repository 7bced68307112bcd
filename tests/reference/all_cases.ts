/**
 * Whether tests compute every combination of their cases.
 *
 * @module
 */

/**
 * Whether `--all` was given: `./firn test -- --all`. By default layouts, splits and subgroups of kernels take turns, and
 * trainings compute products in small blocks, as each kernel takes a second or more to compile on a software adapter.
 */
export const ALL_CASES: boolean = Deno.args.includes("--all");
