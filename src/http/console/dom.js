// Makes elements. Everything that is shown goes through here as text: there is no way to hand in
// HTML, so that names and values of devices stay what they are.

const SVG = 'http://www.w3.org/2000/svg';

// h('button.primary', { onclick }, 'Read', icon): an element with classes, properties and children.
export function h(what, props, ...children) {
  const [tag, ...classes] = what.split('.');
  return fill(document.createElement(tag || 'div'), classes, props, children);
}

// The same for SVG.
export function s(what, props, ...children) {
  const [tag, ...classes] = what.split('.');
  return fill(document.createElementNS(SVG, tag), classes, props, children);
}

function fill(node, classes, props, children) {
  if (props instanceof Node || typeof props === 'string' || Array.isArray(props)) {
    children.unshift(props);
    props = null;
  }
  for (const name of classes) node.classList.add(name);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value == null || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'class') for (const one of value.split(' ')) one && node.classList.add(one);
    else if (name === 'value') node.value = value;
    else node.setAttribute(name, value === true ? '' : String(value));
  }
  add(node, children);
  return node;
}

export function add(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child == null || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
  return node;
}

// Replaces what is in a node.
export function put(node, ...children) {
  node.replaceChildren();
  return add(node, children);
}

export function icon(name) {
  const use = s('use', {});
  use.setAttribute('href', `console/icons.svg#${name}`);
  return s('svg.icon', { 'aria-hidden': 'true' }, use);
}

// Sets text only when it differs, which spares the browser a layout.
export function text(node, value) {
  const wanted = value == null ? '' : String(value);
  if (node.textContent !== wanted) node.textContent = wanted;
}

// Runs `draw` at most once per animation frame, however often it is asked for.
export function perFrame(draw) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    // A page in the background has no frames; it is drawn when it is looked at.
    requestAnimationFrame(() => { asked = false; draw(); });
  };
}

// Runs `draw` at most once in so many milliseconds.
export function atMostEvery(ms, draw) {
  let timer = 0;
  return () => { timer ||= setTimeout(() => { timer = 0; draw(); }, ms); };
}
