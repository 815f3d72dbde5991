package ike

import "time"

// pace bounds how often a peer may have Child SAs made: each costs an SPI that
// rests afterwards, and a key exchange may come with it. A rekeyed IKE SA
// inherits it.
type pace struct {
	began bool
	left  float64
	at    time.Time
}

// childrenPerSecond that a peer may ask for in the long run.
const childrenPerSecond = 1

// allow takes one of burst.
func (p *pace) allow(now time.Time, burst int) bool {
	if !p.began {
		p.began, p.left, p.at = true, float64(burst), now
	}
	p.left = min(float64(burst), p.left+now.Sub(p.at).Seconds()*childrenPerSecond)
	p.at = now
	if p.left < 1 {
		return false
	}
	p.left--
	return true
}
