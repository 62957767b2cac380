// Renders /openapi.json. Every text goes in through textContent: descriptions are data, not markup.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];
const DEEPEST = 6;

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function resolve(root, schema) {
  let found = schema;
  for (let i = 0; found && found.$ref && i < 20; i += 1) {
    found = found.$ref.slice(2).split("/").reduce((node, part) => node && node[part], root);
  }
  return found || {};
}

// A schema in words, for a table's cell.
function kind(root, schema) {
  if (!schema) return "any";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const parts = schema.anyOf || schema.oneOf;
  if (parts) return parts.map((part) => kind(root, part)).join(" | ");
  if (schema.type === "array") return `${kind(root, schema.items)}[]`;
  return [schema.type || "any", schema.format && `(${schema.format})`].filter(Boolean).join(" ");
}

// An example of a schema, from its defaults and examples, so that a body can be copied and changed.
function example(root, given, depth) {
  const schema = resolve(root, given);
  if (schema.example !== undefined) return schema.example;
  if (Array.isArray(schema.examples) && schema.examples.length) return schema.examples[0];
  if (schema.default !== undefined) return schema.default;
  if (schema.const !== undefined) return schema.const;
  if (schema.enum) return schema.enum[0];
  if (depth > DEEPEST) return null;
  const parts = schema.anyOf || schema.oneOf;
  if (parts) return example(root, parts.find((part) => part.type !== "null") || {}, depth + 1);
  if (schema.allOf) return Object.assign({}, ...schema.allOf.map((part) => example(root, part, depth + 1)));
  switch (schema.type) {
    case "object":
      return Object.fromEntries(
        Object.entries(schema.properties || {}).map(([name, part]) => [name, example(root, part, depth + 1)]));
    case "array": return schema.items ? [example(root, schema.items, depth + 1)] : [];
    case "integer": case "number": return schema.minimum || 0;
    case "boolean": return false;
    case "string": return schema.format === "date-time" ? "2026-11-22T12:00:00Z" : "";
    default: return null;
  }
}

function table(heads, rows) {
  const made = element("table");
  const head = made.createTHead().insertRow();
  heads.forEach((text) => head.append(element("th", "", text)));
  const body = made.createTBody();
  rows.forEach((cells) => {
    const row = body.insertRow();
    cells.forEach((cell) => row.insertCell().append(cell));
  });
  return made;
}

function fields(root, given) {
  const schema = resolve(root, given);
  const required = new Set(schema.required || []);
  return table(["field", "type", ""], Object.entries(schema.properties || {}).map(([name, part]) => {
    const label = element("code", "", name);
    if (required.has(name)) label.append(element("span", "required", " *"));
    return [label, kind(root, part), part.description || resolve(root, part).description || ""];
  }));
}

function content(root, holder, media) {
  Object.entries(media || {}).forEach(([type, { schema }]) => {
    holder.append(element("p", "muted", `${type}: ${kind(root, schema)}`));
    if (resolve(root, schema).properties) holder.append(fields(root, schema));
    const shown = example(root, schema, 0);
    if (type.includes("json") && shown !== null) holder.append(element("pre", "", JSON.stringify(shown, null, 2)));
  });
}

function fill(root, holder, path, method, operation) {
  if (operation.description) holder.append(element("p", "", operation.description));
  if (operation["x-scope"]) {
    const line = element("p", "", "Needs the scope ");
    line.append(element("code", "", operation["x-scope"]));
    holder.append(line);
  }
  if (operation.parameters && operation.parameters.length) {
    holder.append(element("h4", "", "Parameters"));
    holder.append(table(["name", "in", "type", ""], operation.parameters.map((raw) => {
      const parameter = resolve(root, raw);
      const label = element("code", "", parameter.name);
      if (parameter.required) label.append(element("span", "required", " *"));
      return [label, parameter.in, kind(root, parameter.schema), parameter.description || ""];
    })));
  }
  if (operation.requestBody) {
    holder.append(element("h4", "", "Body"));
    content(root, holder, resolve(root, operation.requestBody).content);
  }
  holder.append(element("h4", "", "Answers"));
  Object.entries(operation.responses || {}).forEach(([status, raw]) => {
    const response = resolve(root, raw);
    if (status.startsWith("2")) {
      holder.append(element("p", "", `${status} ${response.description || ""}`));
      content(root, holder, response.content);
    }
  });
  const others = Object.entries(operation.responses || {}).filter(([status]) => !status.startsWith("2"));
  holder.append(table(["problem", ""], others.map(([status, raw]) => [status, resolve(root, raw).description || ""])));
  const call = `curl -X ${method.toUpperCase()} -H "Authorization: Bearer $COLONNADE_KEY" ${location.origin}${path}`;
  holder.append(element("h4", "", "Call"), element("pre", "", call));
}

function show(root) {
  const about = document.getElementById("about");
  about.textContent = root.info.description || "";
  const main = document.getElementById("operations");
  const groups = new Map();
  Object.entries(root.paths || {}).forEach(([path, item]) => METHODS.filter((m) => item[m]).forEach((method) => {
    const operation = item[method];
    const tag = (operation.tags || ["other"])[0];
    if (!groups.has(tag)) groups.set(tag, []);
    const box = element("details", "operation");
    const summary = element("summary");
    summary.append(element("span", `method ${method}`, method.toUpperCase()), element("code", "", path));
    summary.append(element("span", "muted", ` ${operation.summary || ""}`));
    const holder = element("div");
    box.append(summary, holder);
    box.dataset.text = `${method} ${path} ${operation.summary || ""} ${operation["x-scope"] || ""}`.toLowerCase();
    box.addEventListener("toggle", () => {
      if (box.open && !holder.hasChildNodes()) fill(root, holder, path, method, operation);
    });
    groups.get(tag).push(box);
  }));
  groups.forEach((boxes, tag) => {
    const section = element("section");
    section.append(element("h2", "", tag), ...boxes);
    main.append(section);
  });
  document.getElementById("find").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    main.querySelectorAll("section").forEach((section) => {
      let some = false;
      section.querySelectorAll("details").forEach((box) => {
        box.hidden = !words.every((word) => box.dataset.text.includes(word));
        some = some || !box.hidden;
      });
      section.hidden = !some;
    });
  });
}

fetch("/openapi.json")
  .then((response) => (response.ok ? response.json() : Promise.reject(new Error(`HTTP ${response.status}`))))
  .then(show)
  .catch((error) => { document.getElementById("about").textContent = `The description cannot be read: ${error.message}`; });
