// The top pick over the whole width. Texts enter by textContent; sends the trigger value `picked`.

export default function (component) {
  const { parentElement, data, setTriggerValue } = component;
  const root = parentElement.querySelector(".billboard");
  root.style.background = data.background;
  root.querySelector(".eyebrow").textContent = data.eyebrow;
  root.querySelector("h1").textContent = data.title;
  root.querySelector("h1").classList.toggle("long", data.title.length > 26);
  root.querySelector(".facts").textContent = data.facts;
  root.querySelector(".reason").textContent = data.reason;
  const button = root.querySelector(".open");
  button.setAttribute("aria-label", `See details of ${data.title}`);
  button.onclick = () => setTriggerValue("picked", data.id);
}
