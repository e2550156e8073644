import { selection } from "d3-selection";

// What d3-zoom imports of d3-transition and d3-interpolate for animations, which the page does not use. The build
// replaces both packages with this module, which saves a quarter of the script.

/** Stops an animation; there is none. */
export function interrupt(): void {}

/** Returns the way between two views in an animation: the target at once. */
export const interpolateZoom = (_from: unknown, to: unknown) => () => to;

Object.assign(selection.prototype, {
  interrupt(this: unknown) {
    return this;
  },
});
