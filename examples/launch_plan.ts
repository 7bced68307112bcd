/**
 * What a command may read, write and ask, as its arguments say: nothing else is open to it, nor to a policy of its `--policy`.
 *
 * @module
 */

import { type Command, COMMANDS } from "./commands.ts";
import { DEVICE_VARIABLE, type DevicePlan, LaunchError, RANK } from "./device_plan.ts";
import { denoFolder, hubPlaces, type Machine, pathsOf, referenceFolder, withTarget } from "./machine.ts";

export { LaunchError };

/** A run of Deno. */
export interface Launch {
  /** Variables that are set for it. */
  readonly env: Readonly<Record<string, string>>;
  /** Permissions. */
  readonly flags: readonly string[];
  readonly script: string;
  readonly args: readonly string[];
  /** Words before Deno that start it. */
  readonly through?: readonly string[];
}

/** How a command is run. */
export interface LaunchPlan {
  /** Programs that run first, as only they may use the network: downloads. */
  readonly before: readonly Launch[];
  readonly main: Launch;
}

/** Flags that stand alone, as far as it matters: what follows them is no value of theirs. */
const TOGGLE = /^--(no-|unsafe-gpu$|help$)|^-h$/;

/** Variables in which launchers of MPI name the number of processes: Open MPI's, MPICH's, Slurm's. */
const LAUNCHERS = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"];
/** The variable that names the library of MPI. */
const LIBRARY = "FIRN_MPI_LIBRARY";
/** The variable that names the file in which the first rank that fails says why. `./firn ranks` sets it, and prints it last. */
export const WHY_VARIABLE = "FIRN_WHY";
const HUB_VARIABLES = "HF_HUB_CACHE,HF_HUB_OFFLINE,HF_ENDPOINT,HF_TOKEN,HF_TOKEN_PATH";
const HUB_HOSTS = ["*.huggingface.co", "*.hf.co"];
/** Where large files are sent. */
const STORES = ["*.s3-accelerate.amazonaws.com", "*.s3.amazonaws.com"];

/**
 * Plans a command.
 *
 * @param args The command, and its arguments
 * @param options The machine; `configured`: flags of the file of `--config`, which count as if they were given; `device`: how it gets
 * a GPU of several
 * @returns What is run, first downloads
 * @throws {LaunchError} When a path cannot be opened alone
 */
export function planOf(
  [command, ...args]: readonly string[],
  { machine, configured = [], device = null }: {
    readonly machine: Machine;
    readonly configured?: readonly string[];
    readonly device?: DevicePlan | null;
  },
): LaunchPlan {
  const about = COMMANDS[command], all = [...args, ...configured];
  const open = opener(command, machine);
  if (about.net === "hub") return { before: [], main: hubLaunch(command, args, open) };
  const needs = needsOf(command, all, open), { places } = open;
  const library = mpiOf(command, machine), why = library === null ? undefined : machine.env(WHY_VARIABLE);
  if (why !== undefined) { for (const list of [places.read, places.write]) list.push(why); }
  const read = needs.everything ? "--allow-read" : `--allow-read=${open.listOf(["."], places.read)}`;
  const hub = needs.everything || places.names.length > 0;
  const cache = hubPlaces(machine);
  const readHub = hub && !needs.everything ? `,${open.listOf([], [cache.HF_HUB_CACHE])}` : "";
  const { measures: nvidia, run } = about;
  const env = [
    ...library === null ? [] : [LIBRARY, ...LAUNCHERS, ...RANK],
    ...why === undefined ? [] : [WHY_VARIABLE],
    ...device === null ? [] : [DEVICE_VARIABLE],
    ...nvidia ? ["FIRN_NVIDIA"] : [],
    ...hub ? ["HF_HUB_CACHE", "HF_HUB_OFFLINE"] : [],
  ];
  const libraries = [
    ...wantsDawn(all) ? withTarget(pathsOf(machine).join(denoFolder(machine), "npm"), machine) : [],
    ...library === null ? [] : withTarget(library, machine),
  ];
  const flags = [
    ...run !== undefined ? [`--allow-run=${run}`] : [],
    ...nvidia && all.includes("--torch") ? ["--allow-run=python3"] : [],
    ...libraries.length > 0 ? [`--allow-ffi=${libraries.join()}`] : [],
    ...env.length > 0 ? [`--allow-env=${env.join()}`] : [],
    ...about.net === "loopback" || needs.watched ? ["--allow-net=127.0.0.1"] : [],
    read + readHub,
    ...about.writes === false ? [] : [`--allow-write=${open.listOf([".firn", "out"], places.write)}`],
  ];
  const asksHelp = all.some((arg) => arg === "--help" || arg === "-h");
  const quiet = { ...hubLaunch("download", [], open), script: COMMANDS.download.script };
  return {
    before: asksHelp ? [] : places.names.map((name) => ({ ...quiet, args: ["--if-missing", name] })),
    main: {
      env: {
        ...hub && { ...cache, HF_HUB_OFFLINE: "1" },
        ...nvidia && { FIRN_NVIDIA: machine.nvidia() ?? "" },
        ...device?.env,
      },
      ...device !== null && { through: device.through },
      flags,
      script: about.script,
      args,
    },
  };
}

/** Paths that a command line opens. */
interface Opener {
  readonly command: string;
  readonly machine: Machine;
  readonly places: { readonly read: string[]; readonly write: string[]; readonly names: string[] };
  /** Paths as Deno takes them. */
  listOf(fixed: readonly string[], paths: readonly string[]): string;
}

function opener(command: string, machine: Machine): Opener {
  const places: Opener["places"] = { read: [denoFolder(machine)], write: [], names: [] };
  return {
    ...{ command, machine, places },
    listOf(fixed, paths) {
      const split = paths.find((path) => path.includes(","));
      if (split !== undefined) {
        throw new LaunchError(
          `cannot open "${split}" alone to ${command} as Deno splits its list of paths at commas: take a path without`,
        );
      }
      return [...fixed, ...paths.filter((path) => path !== "").flatMap((path) => withTarget(path, machine))]
        .join();
    },
  };
}

/** What a command line needs beside paths. */
interface Needs {
  /** Whether what it reads is named in a checkpoint. */
  readonly everything: boolean;
  /** Whether a page follows it. */
  readonly watched: boolean;
}

function needsOf(command: string, args: readonly string[], open: Opener): Needs {
  const { places: { read, write }, machine } = open, paths = pathsOf(machine), about = COMMANDS[command];
  const folderOf = (path: string): string => paths.dirname(path);
  const refers = command === "finetune" && args.some((arg) => /^--(dpo|kto)(=|$)/.test(arg));
  let everything = false, watched = false;
  openPositionals(about, args, open);
  for (const [name, value] of flagsOf(args)) {
    if (name === "--watch") watched = true;
    if (value === null) continue;
    if (["--model", "--adapter", "--distill"].includes(name)) openModel(value, open);
    if (["--data", "--validation", "--evaluate-on"].includes(name)) {
      // Without its name, or its weight.
      const path = name === "--evaluate-on"
        ? value.replace(/^[^=]*=/, "")
        : value.replace(/:[0-9][0-9.]*$/, "");
      if (path.startsWith("hub:")) open.places.names.push(path);
      else read.push(...patternPlace(path, open));
      if (command === "vision") read.push(folderOf(path)); // Images lie beside their rows.
    }
    if (["--prompt-file", "--chat-template", "--config"].includes(name)) read.push(value);
    // A policy may import its neighbours.
    for (const one of name !== "--policy" ? [] : command === "simulate" ? value.split(",") : [value]) {
      if (one.includes("/")) read.push(one.replace(/[^/]*$/, ""));
      if (machine.os === "windows" && one.includes("\\")) read.push(one.replace(/[^\\/]*$/, ""));
    }
    if (name === "--json" && value !== "-") {
      read.push(value);
      write.push(folderOf(value)); // As its sibling first.
    }
    if (name === "--out") {
      read.push(value, ...about.beside ? [folderOf(value)] : []);
      write.push(value, ...about.beside ? [folderOf(value)] : []);
      if (refers) {
        read.push(referenceFolder(value, machine));
        write.push(referenceFolder(value, machine));
      }
    }
    if (name === "--log") {
      read.push(value);
      write.push(value);
    }
    if (name === "--resume") {
      write.push(value);
      everything = true;
    }
  }
  return { everything, watched };
}

/** The flags of a command line, and what stands behind each: its value, or an argument. */
function flagsOf(args: readonly string[]): [name: string, value: string | null][] {
  return args.flatMap((arg, i): [string, string | null][] => {
    if (!arg.startsWith("--")) return [];
    const at = arg.indexOf("=");
    return [at > 0 ? [arg.slice(0, at), arg.slice(at + 1)] : [arg, args[i + 1] ?? null]];
  });
}

function openPositionals(about: Command, args: readonly string[], open: Opener): void {
  const { places: { read, write }, machine } = open;
  if (about.model && args.length > 0 && !args[0].startsWith("-")) openModel(args[0], open);
  if (about.folders) {
    read.push(
      ...args.filter((arg, i) =>
        !arg.startsWith("-") && !["--port", "--gpu", "--device", "--out", "--policy"].includes(args[i - 1])
      ),
    );
  }
  const { places: count } = about;
  if (count === undefined) return;
  const positionals = args.filter((arg, i) => {
    const before = args[i - 1] ?? "";
    return !arg.startsWith("-") && (!before.startsWith("-") || before.includes("=") || TOGGLE.test(before));
  });
  for (const [i, arg] of positionals.slice(0, count).entries()) {
    if (i < count - 1) openModel(arg, open);
    else {
      const folder = pathsOf(machine).dirname(arg);
      read.push(arg, folder);
      write.push(folder); // It is made beside its place at first.
    }
  }
}

function openModel(value: string, { machine, places }: Opener): void {
  if (isName(value, machine)) places.names.push(value);
  else places.read.push(value);
}

/** Whether a value can be a name of a hub, and is nothing on this machine. */
function isName(value: string, machine: Machine): boolean {
  return /^\w[\w.@/+-]*\/[\w.@/+-]*$/.test(value) && !value.includes("//") && machine.kindOf(value) === null;
}

/** What a path or a pattern names; of a pattern the folder before its first mark. */
function patternPlace(path: string, { machine }: Opener): string[] {
  if (machine.kindOf(path) !== null || !/[*?[{]/.test(path)) return [path];
  const [folder] = /^[^*?[{]*/.exec(path)!;
  const place = folder.replace(machine.os === "windows" ? /[^\\/]*$/ : /[^/]*$/, "");
  return place === "" ? [] : [place];
}

/** Whether the arguments ask for the other implementation of WebGPU, which is a library. */
function wantsDawn(args: readonly string[]): boolean {
  return args.some((arg, i) => arg === "--gpu=dawn" || arg === "dawn" && args[i - 1] === "--gpu");
}

/** Processes that a launcher of MPI started; 1 where none did. A launcher within a job of Slurm comes first. */
export const startedBy = ({ env }: Machine): number =>
  Number(LAUNCHERS.map(env).find((size) => size !== undefined) ?? 1);

/** The machine as a process that is no rank sees it, such as one that a rank starts. */
export function withoutRanks(machine: Machine): Machine {
  return { ...machine, env: (name) => LAUNCHERS.includes(name) ? undefined : machine.env(name) };
}

/** The library of MPI of the launcher that started this process among others; null where it is alone. */
function mpiOf(command: string, machine: Machine): string | null {
  const started = startedBy(machine), { env } = machine;
  if (!(started > 1)) return null;
  if (!COMMANDS[command].ranks) {
    const able = Object.entries(COMMANDS).filter(([, { ranks }]) => ranks).map(([name]) => name);
    throw new LaunchError(
      `a launcher of MPI started ${started} processes, and each would do all of "${command}": only ${
        able.join(", ")
      } take several; start it without`,
    );
  }
  const path = env(LIBRARY);
  if (path !== undefined) return path;
  throw new LaunchError(
    `a launcher of MPI started this, and ${LIBRARY} must name the library of that MPI, such as /usr/lib/libmpi.so.40: it is not set; "./firn" finds it`,
  );
}

/** A process of its own asks the hub: what trains, and a policy of its `--policy`, gets no network and no token. */
function hubLaunch(command: string, args: readonly string[], open: Opener): Launch {
  const { machine } = open, cache = hubPlaces(machine);
  const host = (machine.env("HF_ENDPOINT") ?? "https://huggingface.co").replace(/^.*?:\/\//, "").split("/")[0]
    .replace(/:\d+$/, ""); // On any port: its store may have another.
  const pushed = command === "push" ? args.find((arg) => machine.kindOf(arg) === "folder") ?? "." : null;
  const read = [cache.HF_HUB_CACHE, cache.HF_TOKEN_PATH, denoFolder(machine)];
  // The folder, and beside it the log of its run.
  const log = pushed === null
    ? ""
    : `,${open.listOf([], [pushed])},${pushed.replace(/[\\/]$/, "")}/../metrics.jsonl`;
  return {
    env: { ...cache },
    flags: [
      `--allow-env=${HUB_VARIABLES}`,
      `--allow-net=${[host, ...HUB_HOSTS, ...pushed === null ? [] : STORES].join()}`,
      `--allow-read=${open.listOf(["."], read)}${log}`,
      `--allow-write=${open.listOf([], [cache.HF_HUB_CACHE])}`,
    ],
    script: COMMANDS[command].script,
    args,
  };
}
