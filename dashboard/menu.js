// On a phone the pages' links stand in a sidebar over the page, which Streamlit leaves open after a choice.
document.addEventListener("click", (event) => {
  const chosen = event.target.closest('[data-testid="stSidebarNavLink"]');
  if (chosen && window.matchMedia("(max-width: 768px)").matches)
    document.querySelector('[data-testid="stSidebarCollapseButton"] button')?.click();
});
