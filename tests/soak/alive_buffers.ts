/**
 * Counts the buffers that a device holds.
 *
 * @module
 */

/** A count of buffers. */
export interface AliveBuffers extends Disposable {
  /** Buffers that were created and neither destroyed nor collected. */
  count(): number;
}

/**
 * Counts from now on.
 *
 * @param device The device
 * @returns The count
 */
export function aliveBuffers(device: GPUDevice): AliveBuffers {
  const create = device.createBuffer.bind(device), alive = new Set<number>();
  const collected = new FinalizationRegistry<number>((number) => alive.delete(number));
  let next = 0;
  Object.defineProperty(device, "createBuffer", {
    configurable: true,
    value(descriptor: GPUBufferDescriptor): GPUBuffer {
      const buffer = create(descriptor), number = next++;
      alive.add(number);
      collected.register(buffer, number);
      Object.defineProperty(buffer, "destroy", {
        value(): undefined {
          alive.delete(number);
          return GPUBuffer.prototype.destroy.call(buffer);
        },
      });
      return buffer;
    },
  });
  return {
    count: () => alive.size,
    [Symbol.dispose]: () => Reflect.deleteProperty(device, "createBuffer"),
  };
}
