const list = document.getElementById("list");
const text = document.getElementById("text");
const note = document.getElementById("note");

async function call(method, path, body) {
  const answer = await fetch(path, { method, body });
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  return answer;
}

async function show() {
  const todos = await (await call("GET", "/todo/api")).json();
  list.replaceChildren(...todos.map((todo) => {
    const item = document.createElement("li");
    const words = document.createElement("span");
    const remove = document.createElement("button");
    item.className = todo.done ? "done" : "";
    words.textContent = todo.text;
    words.onclick = () => change("POST", `/todo/api/${todo.id}/toggle`);
    remove.textContent = "×";
    remove.setAttribute("aria-label", "remove");
    remove.onclick = () => change("DELETE", `/todo/api/${todo.id}`);
    item.append(words, remove);
    return item;
  }));
}

async function change(method, path, body) {
  try {
    await call(method, path, body);
    note.textContent = "";
    await show();
  } catch (error) {
    note.textContent = error.message;
  }
}

document.getElementById("add").onsubmit = (event) => {
  event.preventDefault();
  const said = text.value.trim();
  text.value = "";
  if (said) change("POST", "/todo/api", said);
};

show();
