// The site's search runs in a Worker, which browsers start for no page that was opened from the disk. There it runs in
// a hidden frame. The offline plugin in mkdocs.yml knows this file by its name and then loads none from elsewhere.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      frame.srcdoc = `<script src="${url}"></script>`
      this.inside = new Promise(resolve => frame.addEventListener("load", () => resolve(frame.contentWindow)))
      this.inside.then(inside => {
        inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      })
      document.body.append(frame)
    }

    postMessage(data) {
      this.inside.then(inside => inside.dispatchEvent(new MessageEvent("message", { data })))
    }
  }
}
