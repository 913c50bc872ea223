import type { CrashPlant } from "./crash-world.ts";

export const crashPlants: Record<string, CrashPlant> = {};
