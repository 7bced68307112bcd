/**
 * Which GPU a command gets on a machine with several: that of `--device`, or under a launcher of MPI the one whose turn it is. The
 * choice is made before its process starts, as drivers then take what they see.
 *
 * @module
 */

import type { Gpus, Machine, MachineGpu } from "./machine.ts";

/** A command line, or a machine, on which no GPU can be chosen; the message is for a person. */
export class LaunchError extends Error {
  override name = "LaunchError";
}

/** How a process gets its GPU. */
export interface DevicePlan {
  /** Variables of its environment. */
  readonly env: Readonly<Record<string, string>>;
  /** Words before the program that starts it, which give it a view of `/dev` of its own; none where that is not needed. */
  readonly through: readonly string[];
  /** What to say to a person, of a rank. */
  readonly said?: string;
}

/** Variables in which launchers give the number of a process among those on its machine: Open MPI, MPICH, PALS, Slurm. */
const LOCAL_RANK = [
  "OMPI_COMM_WORLD_LOCAL_RANK",
  "MPI_LOCALRANKID",
  "PMI_LOCAL_RANK",
  "PALS_LOCAL_RANKID",
  "SLURM_LOCALID",
];
/** Variables in which launchers of MPI give the number of a process among all: Open MPI's, MPICH's, Slurm's. */
export const RANK: readonly string[] = ["OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"];
/** How many there are on its machine. */
const LOCAL_SIZE = ["OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "PMI_LOCAL_SIZE", "PALS_LOCAL_SIZE"];

/** The variable in which `openGpu` finds what this process was given; see `core/host/pci_gpus.ts`. */
export const DEVICE_VARIABLE = "FIRN_DEVICE";

/** A view of devices of its own: root needs no user namespace. In one, the newer flags leave the user who he is. */
const VIEWS: readonly (readonly string[])[] = [
  ["unshare", "--mount"],
  ["unshare", "--map-current-user", "--keep-caps", "--mount"],
  ["unshare", "--map-root-user", "--mount"],
];
/** Between user namespaces the kernel copies no memory, for which Open MPI 4 would wait for ever: it copies twice. */
const APART = { OMPI_MCA_btl_vader_single_copy_mechanism: "none" };
/** Hides the nodes up to "--", and becomes the program behind it. */
const HIDE = 'while [ "$1" != -- ]; do mount --bind /dev/null "$1" || exit; shift; done; shift; exec "$@"';

/**
 * Chooses a GPU.
 *
 * @param args The arguments of the command
 * @param options The machine, and whether the process is a rank among others
 * @returns How the process gets its GPU; null where there is nothing to choose
 * @throws {LaunchError} When there is no such GPU, or this system lets nobody choose
 */
export async function devicePlan(
  args: readonly string[],
  { machine, ranked }: { readonly machine: Machine; readonly ranked: boolean },
): Promise<DevicePlan | null> {
  const asked = askedFor(args), local = ranked ? numberIn(LOCAL_RANK, machine) : null;
  if (asked === null && local === null || machine.os !== "linux") return null;
  const gpus = allowed(await machine.gpus(), machine);
  const own = asked === null ? alike(gpus.all) : asked.split(",").map((text) => named(text, gpus));
  if (own.length === 0) return null;
  if (own.length > 1 && local === null) {
    throw new LaunchError(
      `one process trains on one GPU, and --device names ${own.length}: name one, or start ranks: ./firn ranks ${own.length} finetune`,
    );
  }
  const gpu = own[(local ?? 0) % own.length], { env, hidden } = gpus.handingOf(gpu, gpus.all);
  const view = hidden.length === 0 ? [] : viewOf(gpu, machine), ofRoot = view.length <= VIEWS[0].length;
  return {
    env: { ...env, ...ofRoot ? {} : APART, [DEVICE_VARIABLE]: `${gpu.address}/${gpu.model}` },
    through: hidden.length === 0 ? [] : [...view, "sh", "-c", HIDE, "firn", ...hidden, "--"],
    ...local !== null && { said: saidOf(gpu, { own, local, machine }) },
  };
}

/** A job of Slurm sees all devices of its machine, and may open its own. */
function allowed(gpus: Gpus, machine: Machine): Gpus {
  if (machine.env("SLURM_JOB_ID") === undefined) return gpus;
  return {
    ...gpus,
    all: gpus.all.map((gpu) => ({ ...gpu, visible: gpu.visible && machine.opens(gpu.nodes[0]) })),
  };
}

/** The value of `--device`. */
function askedFor(args: readonly string[]): string | null {
  const at = args.findLastIndex((arg) => arg === "--device" || arg.startsWith("--device="));
  if (at < 0) return null;
  return args[at] === "--device" ? args[at + 1] ?? null : args[at].slice("--device=".length);
}

function named(text: string, { all, pciAddress }: Gpus): MachineGpu {
  const address = pciAddress(text);
  if (address === null) {
    throw new LaunchError(
      `--device must be the PCI address of a GPU, such as 0000:00:07.0: got "${text}"; this machine has ${
        listOf(all)
      }`,
    );
  }
  const gpu = all.find((other) => other.address === address);
  if (gpu?.visible) return gpu;
  throw new LaunchError(
    `there is no GPU at ${address}${
      gpu === undefined ? "" : ` to use, as ${gpu.nodes[0]} is hidden from this process`
    }: this machine has ${listOf(all.filter(({ visible }) => visible))}`,
  );
}

const listOf = (gpus: readonly MachineGpu[]): string =>
  gpus.length === 0
    ? "none with a driver"
    : gpus.map(({ address, driver, model }) => `${address} (${driver}, ${model})`).join(", ");

/** The GPUs that ranks share: those of one model, as others would round differently; most of them, NVIDIA's among as many. */
function alike(all: readonly MachineGpu[]): readonly MachineGpu[] {
  const groups = Map.groupBy(all.filter(({ visible }) => visible), ({ model }) => model);
  const worth = (gpus: readonly MachineGpu[]): number =>
    gpus.length + (gpus[0].driver === "nvidia" ? 0.5 : 0);
  return [...groups.values()].toSorted((a, b) => worth(b) - worth(a))[0] ?? [];
}

function viewOf({ address }: MachineGpu, machine: Machine): readonly string[] {
  const view = VIEWS.find((words) =>
    machine.succeeds([...words, "mount", "--bind", "/dev/null", "/dev/null"])
  );
  if (view !== undefined) return view;
  throw new LaunchError(
    `cannot give a process the GPU at ${address} alone as this system must allow a private mount namespace (unshare --mount): it does not; run as root, allow namespaces of users (sysctl user.max_user_namespaces), or start a container that has only that GPU`,
  );
}

function numberIn(names: readonly string[], { env }: Machine): number | null {
  const text = names.map(env).find((value) => /^\d{1,7}$/.test(value ?? ""));
  return text === undefined ? null : Number(text);
}

/** What a rank got, and with whom it shares that. */
function saidOf(
  { address }: MachineGpu,
  { own, local, machine }: {
    readonly own: readonly MachineGpu[];
    readonly local: number;
    readonly machine: Machine;
  },
): string {
  const size = numberIn(LOCAL_SIZE, machine) ?? 0;
  const sharing = Math.floor((size - 1 - local % own.length) / own.length) + 1;
  const shared = sharing > 1
    ? `, which ${sharing} ranks share, as ${size} ranks have ${own.length} here`
    : "";
  return `rank ${numberIn(RANK, machine) ?? local} has the GPU at ${address}${shared}`;
}
