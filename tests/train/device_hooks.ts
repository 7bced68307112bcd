/** Devices that refuse, report and keep waiting when a test says so. */

import type { Gpu } from "@firn/train";

/** A buffer that is asked for. */
export interface Asked {
  readonly label: string;
  /** Whether anything was submitted since the device was told to refuse. */
  readonly begun: boolean;
}

/** Has buffers refused where a test says so. */
export function refusing(gpu: Gpu, refuse: (asked: Asked) => boolean): Disposable {
  const { device } = gpu, seen = gpu.counts.submits;
  const create = device.createBuffer.bind(device), pop = device.popErrorScope.bind(device);
  let label = "";
  return replaced(device, {
    createBuffer(descriptor: GPUBufferDescriptor): GPUBuffer {
      label = descriptor.label!;
      return create(descriptor);
    },
    popErrorScope(): Promise<GPUError | null> {
      const refused = refuse({ label, begun: gpu.counts.submits > seen });
      return pop().then((error) => refused ? { message: "no room" } as GPUError : error);
    },
  });
}

/** Has the device answer whether there is room only after something else. */
export function waiting(gpu: Gpu, other: Promise<unknown>): Disposable {
  const pop = gpu.device.popErrorScope.bind(gpu.device);
  return replaced(gpu.device, { popErrorScope: () => pop().then((error) => other.then(() => error)) });
}

/** Has the device report an error that has nothing to do with what runs on it. */
export async function reportError({ device }: Gpu): Promise<void> {
  await new Promise((resolve) => {
    device.addEventListener("uncapturederror", resolve, { once: true });
    device.createBuffer({ size: 4, usage: 0 });
  });
}

function replaced(device: GPUDevice, methods: Partial<GPUDevice>): Disposable {
  for (const [name, value] of Object.entries(methods)) {
    Object.defineProperty(device, name, { configurable: true, value });
  }
  return {
    [Symbol.dispose]: () => Object.keys(methods).forEach((name) => Reflect.deleteProperty(device, name)),
  };
}
