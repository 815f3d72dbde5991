package netns

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// apart runs f on a thread that ends with it, so that nobody else is given a thread
// inside a namespace. The main thread wouldn't end (runtime.LockOSThread), and is
// what /proc takes for the process.
func apart(f func()) {
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		// Held until the other one has a thread, which is another one therefore.
		begun := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(begun)
			f()
		}()
		<-begun
		runtime.UnlockOSThread()
	}()
}
