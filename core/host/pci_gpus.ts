/**
 * The GPUs of a machine with Linux by their place on the PCI bus, as the kernel lists them.
 *
 * @module
 */

/** A GPU that this system has a driver for. */
export interface PciGpu {
  /** Where it is on the bus, `"0000:00:07.0"`. */
  readonly address: string;
  /** Its vendor and model, as they are numbered: `"10de:2335"`. Twins share it. */
  readonly model: string;
  /** The driver in the kernel, `"nvidia"`, `"amdgpu"`, `"i915"`. */
  readonly driver: string;
  /** Its device nodes, that which a program computes through first. */
  readonly nodes: readonly string[];
  /** Whether this process sees that node; one under `/dev/null` it does not see. */
  readonly visible: boolean;
}

/** The part of Node's `fs` that is used. Deno has it, too. */
interface Files {
  readdirSync(path: string): readonly string[];
  readFileSync(path: string, encoding: "utf8"): string;
  readlinkSync(path: string): string;
  statSync(path: string): { readonly ino: number; readonly dev: number };
}

/** A place on the bus as programs write it: the domain has 4 digits, 8 or none. */
const ADDRESS = /^(?:(?:0000)?([0-9a-f]{4}):)?([0-9a-f]{2}):([01][0-9a-f])\.([0-7])$/;

/**
 * Reads a PCI address.
 *
 * @param text `"0000:00:07.0"`; `"00:07.0"` and what nvidia-smi prints, `"00000000:00:07.0"`, are the same
 * @returns The address as the kernel writes it; null when it is none
 */
export function pciAddress(text: string): string | null {
  const [found, domain = "0000", bus, device, part] = ADDRESS.exec(text.toLowerCase()) ?? [];
  return found === undefined ? null : `${domain}:${bus}:${device}.${part}`;
}

/**
 * Lists the GPUs of this machine, without what only draws a console. Deno reads `/sys` with all permissions only.
 *
 * @param options `root`: the folder that holds `sys`, `proc` and `dev`; that of the system when absent
 * @returns The GPUs by address; none where there is no Linux
 * @throws {Error} When Deno may not look
 */
export function pciGpus({ root = "" }: { readonly root?: string } = {}): readonly PciGpu[] {
  const { process } = globalThis as { process?: { getBuiltinModule?(name: string): unknown } };
  const files = process?.getBuiltinModule?.("node:fs") as Files | undefined,
    bus = `${root}/sys/bus/pci/devices`;
  if (files === undefined) return [];
  const isNull = sameAs(files, `${root}/dev/null`);
  return (unlessAbsent(() => files.readdirSync(bus)) ?? []).toSorted().flatMap((address): PciGpu[] => {
    const about = (name: string): string => files.readFileSync(`${bus}/${address}/${name}`, "utf8").trim();
    if (!about("class").startsWith("0x03")) return [];
    const nodes = nodesOf(files, { root, address });
    const driver = nodes[0]?.startsWith(`${root}/dev/nvidia`)
      ? "nvidia"
      : unlessAbsent(() => files.readlinkSync(`${bus}/${address}/driver`))?.split("/").at(-1);
    if (driver === undefined || nodes.length === 0) return [];
    const [vendor, device] = ["vendor", "device"].map((name) => about(name).replace("0x", ""));
    return [{ address, model: `${vendor}:${device}`, driver, nodes, visible: isNull(nodes[0]) === false }];
  });
}

/** The nodes of a GPU: NVIDIA's own, and what the kernel's own drivers render through. */
function nodesOf(
  files: Files,
  { root, address }: { readonly root: string; readonly address: string },
): string[] {
  const about = unlessAbsent(() =>
    files.readFileSync(`${root}/proc/driver/nvidia/gpus/${address}/information`, "utf8")
  );
  const minor = /^Device Minor:\s*(\d+)/m.exec(about ?? "")?.[1];
  const drawn = unlessAbsent(() => files.readdirSync(`${root}/sys/bus/pci/devices/${address}/drm`)) ?? [];
  const render = drawn.filter((name) => name.startsWith("renderD"));
  // Without a node to render through it draws a console and no more.
  const cards = render.length > 0 ? drawn.filter((name) => /^card\d+$/.test(name)) : [];
  const [first, ...others] = [
    ...minor === undefined ? [] : [`${root}/dev/nvidia${minor}`],
    ...[...render, ...cards].map((name) => `${root}/dev/dri/${name}`),
  ];
  // A container may have some of them.
  const there = others.filter((node) => unlessAbsent(() => files.statSync(node)) !== null);
  return first === undefined ? [] : [first, ...there];
}

/** Tells whether a path leads to the same file; null where nothing is there. */
function sameAs(files: Files, path: string): (other: string) => boolean | null {
  const own = unlessAbsent(() => files.statSync(path));
  return (other) => {
    const there = unlessAbsent(() => files.statSync(other));
    return there === null ? null : there.ino === own?.ino && there.dev === own.dev;
  };
}

/** What work gives; null where a file that it needs is not there. */
function unlessAbsent<T>(work: () => T): T | null {
  try {
    return work();
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes((error as { readonly code?: string }).code ?? "")) return null;
    throw error;
  }
}

/** What gives a process one of several GPUs. */
export interface Handing {
  /** Variables of its environment. */
  readonly env: Readonly<Record<string, string>>;
  /** Nodes that it must not see. */
  readonly hidden: readonly string[];
}

/**
 * What gives a process one GPU and no other. NVIDIA's driver opens what it sees in `/dev`, so that the nodes of others are hidden;
 * Mesa's drivers are chosen by variables, which its device-select layer reads.
 *
 * Source: measured on two H200, driver 580; Mesa's manual, DRI_PRIME and MESA_VK_DEVICE_SELECT_FORCE_DEFAULT_DEVICE.
 *
 * @param gpu The GPU
 * @param all The GPUs of the machine
 * @returns Variables, and nodes to hide; none of both where it is the only one
 */
export function handingOf(gpu: PciGpu, all: readonly PciGpu[]): Handing {
  const others = all.filter(({ address, visible }) => visible && address !== gpu.address);
  if (others.length === 0) return { env: {}, hidden: [] };
  if (gpu.driver === "nvidia") return { env: {}, hidden: others.flatMap(({ nodes }) => nodes) };
  return {
    env: {
      DRI_PRIME: `pci-${gpu.address.replaceAll(/[:.]/g, "_")}`,
      MESA_VK_DEVICE_SELECT_FORCE_DEFAULT_DEVICE: "1",
    },
    hidden: [],
  };
}

/** The variable in which a launcher says which GPU it gave to a process: `"0000:00:07.0/10de:2335"`, its address and model. */
export const DEVICE_VARIABLE: string = "FIRN_DEVICE";
