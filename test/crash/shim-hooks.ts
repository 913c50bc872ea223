/** A run whose broker is preloaded with the shim: its kills can be power cuts, its disk can be made to fail. */
import { existsSync, readFileSync, rmSync } from "node:fs";
import type { Dice } from "#test/simulation/weather.ts";
import { type DiskFailure, setFailure, shimEnvironment } from "./disk-shim.ts";
import { cutPower, type Image, readImage } from "./power-cut.ts";
import type { Hooks, World } from "./world.ts";

export interface ShimOptions {
  /** Undefined: a kill leaves the disk as it is. */
  readonly cuts?: Dice;
  /** A slow disk: each sync takes so much longer. */
  readonly syncMs?: number;
  during?(world: World, fail: (failure: DiskFailure) => void): Promise<void>;
}

export class ShimHooks implements Hooks {
  #before: Image = new Map();
  #journal = "";

  constructor(private readonly options: ShimOptions) {}

  beforeStart(dataDir: string): Record<string, string> {
    this.#journal = `${dataDir}.journal`;
    rmSync(this.#journal, { force: true });
    if (this.options.cuts !== undefined) this.#before = readImage(dataDir);
    const { syncMs = 0 } = this.options;
    return shimEnvironment({ dir: dataDir, journal: this.#journal, control: `${dataDir}.control`, syncMs });
  }

  afterKill(world: World): void {
    const { cuts } = this.options;
    if (cuts === undefined) return;
    const journal = existsSync(this.#journal) ? readFileSync(this.#journal) : Buffer.alloc(0);
    world.note(`power cut, of what was not synced: ${cutPower(world.dataDir, this.#before, journal, cuts)}`);
  }

  async during(world: World): Promise<void> {
    await this.options.during?.(world, (failure) => {
      world.note(`the disk: ${failure}`);
      setFailure(`${world.dataDir}.control`, failure);
    });
  }
}
