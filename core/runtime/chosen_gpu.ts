/**
 * The choice of one of several GPUs, which a process gets from what started it: drivers take what they see.
 *
 * @module
 */

/// <reference types="npm:@webgpu/types@0.1.66" />
import { InputError, NotFoundError } from "../errors.ts";
import { hostVariable } from "../host/environment.ts";
import { DEVICE_VARIABLE, handingOf, pciAddress, type PciGpu, pciGpus } from "../host/pci_gpus.ts";

/** What this process can be asked about itself; an argument, so that it is tested without GPUs. */
export interface Surroundings {
  /** Lists the GPUs of the machine. */
  readonly gpus: () => readonly PciGpu[];
  /** Looks up a variable of the environment; undefined where it is not set, or may not be read. */
  readonly variable: (name: string) => Promise<string | undefined>;
}

/** Vendors as adapters name them, by their number. */
const VENDORS: Readonly<Record<string, string>> = { "10de": "nvidia", "1002": "amd", "8086": "intel" };

/**
 * Checks that this process takes a GPU and no other.
 *
 * @param device The address of the GPU that is wanted
 * @param surroundings What this process sees
 * @returns What checks the adapter that WebGPU gives, once there is one
 * @throws {InputError} When it is no address, or this process was not started so that it takes that GPU
 * @throws {NotFoundError} When the machine has no such GPU
 */
export async function chosenGpu(
  device: string,
  { gpus, variable }: Surroundings = { gpus: pciGpus, variable: hostVariable },
): Promise<(info: GPUAdapterInfo) => void> {
  const address = typeof device === "string" ? pciAddress(device) : null;
  if (address === null) {
    throw new InputError(
      `Cannot open a GPU as "device" must be a PCI address such as "0000:00:07.0": got ${
        JSON.stringify(device)
      }; see what lspci, or nvidia-smi, prints`,
    );
  }
  const given = await variable(DEVICE_VARIABLE);
  if (given !== undefined) return ofLauncher(address, given);
  const all = listed(address, gpus), gpu = all.find((other) => other.address === address);
  if (gpu === undefined) {
    throw new NotFoundError(
      `Cannot open the GPU at "${address}" as this machine must have it: it has ${
        all.length === 0 ? "none with a driver" : all.map(shownGpu).join(", ")
      }; take one of its own`,
    );
  }
  if (!gpu.visible) {
    throw new InputError(
      `Cannot open the GPU at "${address}" as this process must see ${
        gpu.nodes[0]
      }: it is hidden from it, by a container or a launcher; take what it was given`,
    );
  }
  await checkHanding(gpu, { all, variable });
  return (info) => checkModel(info, gpu);
}

const shownGpu = ({ address, driver, model }: PciGpu): string => `${address} (${driver}, ${model})`;

/** What a launcher gave to this process was checked by it. */
function ofLauncher(address: string, given: string): (info: GPUAdapterInfo) => void {
  const [own, model = ""] = given.split("/");
  if (pciAddress(own) === address) return (info) => checkModel(info, { address, model });
  throw new InputError(
    `Cannot open the GPU at "${address}" as this process was started with that at "${own}", as ${DEVICE_VARIABLE} says: a process has one for all its life; start another`,
  );
}

function listed(address: string, gpus: Surroundings["gpus"]): readonly PciGpu[] {
  try {
    return gpus();
  } catch (error) {
    if ((error as Error).name !== "NotCapable") throw error;
    throw new InputError(
      `Cannot open the GPU at "${address}" as Deno must be allowed to look at /sys and /dev: it is not, without all permissions; run it by "./firn ... --device ${address}", or with --allow-all`,
    );
  }
}

/** Refuses a process that would take what its driver lists first. */
async function checkHanding(
  gpu: PciGpu,
  { all, variable }: Pick<Surroundings, "variable"> & { readonly all: readonly PciGpu[] },
): Promise<void> {
  const { env, hidden } = handingOf(gpu, all);
  if (hidden.length > 0) {
    throw new InputError(
      `Cannot open the GPU at "${gpu.address}" as NVIDIA's driver takes the first that a process sees: this process sees ${
        hidden.join(", ")
      } too; start it without them, by "./firn ... --device ${gpu.address}", or: unshare --mount sh -c '${
        hidden.map((node) => `mount --bind /dev/null ${node}`).join(" && ")
      } && exec deno run ...'`,
    );
  }
  for (const [name, value] of Object.entries(env)) {
    const own = await variable(name);
    // The layer lists the GPU first with one of the variables, and alone with both.
    if (own === value) continue;
    throw new InputError(
      `Cannot open the GPU at "${gpu.address}" as ${name} must choose it before the process starts: it is ${
        own === undefined ? "not set" : `"${own}"`
      }; run it by "./firn ... --device ${gpu.address}", or with ${
        Object.entries(env).map((entry) => entry.join("=")).join(" ")
      }`,
    );
  }
}

/** Refuses an adapter that cannot be the GPU: a driver that knows no choice gives another without a word. */
function checkModel(
  { vendor, device, description }: GPUAdapterInfo,
  { address, model }: Pick<PciGpu, "address" | "model">,
): void {
  const [ownVendor, ownDevice] = model.split(":"), number = (text: string): number => parseInt(text, 16);
  const fits = /^\d+$/.test(vendor)
    ? Number(vendor) === number(ownVendor) &&
      (!/^[1-9]\d*$/.test(device) || Number(device) === number(ownDevice))
    : !(ownVendor in VENDORS) || vendor === VENDORS[ownVendor];
  if (fits) return;
  throw new NotFoundError(
    `Cannot open the GPU at "${address}" as its driver of Vulkan must give it: WebGPU has "${
      description || device || vendor
    }"; install the driver of that GPU, and for Mesa its device-select layer (mesa-vulkan-drivers)`,
  );
}
