// Draws a QR code as one path of an SVG.

import { qrCode } from "./pkg/index.js";

const MARGIN = 4;
const NAMESPACE = "http://www.w3.org/2000/svg";

export function drawQr(into, text) {
  const modules = qrCode(text);
  const side = Math.sqrt(modules.length);
  const parts = [];
  modules.forEach((dark, index) => {
    if (dark) parts.push(`M${MARGIN + (index % side)} ${MARGIN + Math.floor(index / side)}h1v1h-1z`);
  });
  const svg = document.createElementNS(NAMESPACE, "svg");
  const whole = side + 2 * MARGIN;
  svg.setAttribute("viewBox", `0 0 ${whole} ${whole}`);
  svg.setAttribute("shape-rendering", "crispEdges");
  const path = document.createElementNS(NAMESPACE, "path");
  path.setAttribute("d", parts.join(""));
  path.setAttribute("fill", "#000");
  svg.append(path);
  into.replaceChildren(svg);
}
