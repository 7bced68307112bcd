/**
 * Stands in for the `parseArgs` of `jsr:@std/cli` where JSR does not answer. It stands on minimist, from
 * which std's own parser descends, so the grammar is the same: no dependencies, 55 kB, kept up by the
 * minimistjs organization. What std changed is added here: only a collected option keeps every value, and
 * only a negatable one is negated by `--no-`.
 *
 * @module
 */

// Named in full, so that deno.json need not carry what only a stand-in uses.
// deno-lint-ignore no-import-prefix
import minimist from "npm:minimist@1.2.8";

type Names<Name extends string> = Name | readonly Name[];

/** What `parseArgs` is told of the options. */
export interface ParseOptions<
  Bool extends string = string,
  Text extends string = string,
  Many extends string = string,
  Default extends Record<string, unknown> = Record<string, unknown>,
> {
  readonly "--"?: boolean;
  readonly alias?: Readonly<Record<string, string | readonly string[]>>;
  readonly boolean?: boolean | Names<Bool>;
  readonly default?: Default;
  readonly stopEarly?: boolean;
  readonly string?: Names<Text>;
  readonly collect?: Names<Many>;
  readonly negatable?: Names<string>;
  readonly unknown?: (arg: string, key?: string, value?: unknown) => unknown;
}

type Value<Name, One, Many, Default> = Name extends Many ? One[]
  : Name extends keyof Default ? One | Default[Name]
  : One extends boolean ? boolean
  : One | undefined;

/** The options found, and in `_` the arguments that are no option's. */
export type Args<Bool extends string, Text extends string, Many extends string, Default> =
  & { [Name in Bool]: Value<Name, boolean, Many, Default> }
  & { [Name in Text]: Value<Name, string, Many, Default> }
  & { [Name in Exclude<keyof Default, Bool | Text>]: unknown }
  & { [Name in Exclude<Many, Bool | Text>]: unknown[] }
  & { _: (string | number)[]; "--"?: string[] }
  & Record<string, unknown>;

/** Parses command line arguments as `@std/cli/parse-args` does. */
export function parseArgs<
  Bool extends string = never,
  Text extends string = never,
  Many extends string = never,
  // deno-lint-ignore ban-types
  Default extends Record<string, unknown> = {},
>(
  args: readonly string[],
  options: ParseOptions<Bool, Text, Many, Default> = {},
): Args<Bool, Text, Many, Default> {
  const collect: readonly string[] = names(options.collect), negatable = names(options.negatable);
  const end = args.includes("--") ? args.indexOf("--") : args.length;
  const negated = args.slice(0, end).map((arg) =>
    arg.startsWith("--no-") && !arg.includes("=") && !negatable.includes(arg.slice(5)) ? `${arg}=true` : arg
  );
  const found: Record<string, unknown> = minimist([...negated, ...args.slice(end)], {
    "--": options["--"],
    alias: options.alias,
    boolean: typeof options.boolean === "boolean" ? options.boolean : names(options.boolean),
    string: [...names(options.string)],
    default: options.default,
    stopEarly: options.stopEarly,
    unknown: (arg: string) => {
      if (!arg.startsWith("-")) return options.unknown?.(arg) !== false;
      const [key, ...value] = arg.replace(/^--?/, "").split("=");
      return options.unknown?.(arg, key, value.length > 0 ? value.join("=") : true) !== false;
    },
  });
  for (const [key, value] of Object.entries(found)) {
    if (key === "_" || key === "--" || value === options.default?.[key]) continue;
    if (Array.isArray(value) && !collect.includes(key)) found[key] = value.at(-1);
    if (!Array.isArray(value) && collect.includes(key)) found[key] = [value];
    if (key.startsWith("no-") && value === "true") found[key] = true;
  }
  for (const key of collect) found[key] ??= [];
  return found as Args<Bool, Text, Many, Default>;
}

function names<Name extends string>(given: Names<Name> | boolean | undefined): readonly Name[] {
  if (given === undefined || typeof given === "boolean") return [];
  return typeof given === "string" ? [given] : given;
}
