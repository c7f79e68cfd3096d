// The stack that the gateway replaces: gorilla/websocket, a reader and a writer goroutine for each connection,
// a deadline before each write, NATS as the source. Its loop echoes what clients send.
//
//	gorilla 127.0.0.1:18001 nats://127.0.0.1:4222
package main

import (
	"log"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/nats-io/nats.go"
)

const (
	writeWait  = 15 * time.Second
	pongWait   = 60 * time.Second
	pingPeriod = 30 * time.Second
	readLimit  = 65536
	queueMax   = 64 // messages that wait for a client; those beyond are dropped
)

// hub knows the queue of each client.
type hub struct {
	mu      sync.RWMutex
	clients map[chan []byte]struct{}
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: gorilla LISTEN NATS-URL")
	}
	nc, err := nats.Connect(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	h := &hub{clients: map[chan []byte]struct{}{}}
	if _, err := nc.Subscribe("bench", func(m *nats.Msg) { h.broadcast(m.Data) }); err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/ws-notifications", h.serve)
	log.Fatal(http.ListenAndServe(os.Args[1], nil))
}

func (h *hub) broadcast(message []byte) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for queue := range h.clients {
		select {
		case queue <- message:
		default:
		}
	}
}

func (h *hub) serve(w http.ResponseWriter, r *http.Request) {
	upgrader := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer ws.Close()
	queue := make(chan []byte, queueMax)
	h.mu.Lock()
	h.clients[queue] = struct{}{}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		delete(h.clients, queue)
		h.mu.Unlock()
	}()
	done := make(chan struct{})
	defer close(done)
	go write(ws, queue, done)
	read(ws, queue)
}

func read(ws *websocket.Conn, queue chan<- []byte) {
	ws.SetReadLimit(readLimit)
	ws.SetReadDeadline(time.Now().Add(pongWait))
	ws.SetPongHandler(func(string) error { return ws.SetReadDeadline(time.Now().Add(pongWait)) })
	for {
		_, message, err := ws.ReadMessage()
		if err != nil {
			return
		}
		queue <- message
	}
}

func write(ws *websocket.Conn, queue <-chan []byte, done <-chan struct{}) {
	ticker := time.NewTicker(pingPeriod)
	defer ticker.Stop()
	for {
		kind, message := websocket.PingMessage, []byte(nil)
		select {
		case message = <-queue:
			kind = websocket.TextMessage
		case <-ticker.C:
		case <-done:
			return
		}
		ws.SetWriteDeadline(time.Now().Add(writeWait))
		if ws.WriteMessage(kind, message) != nil {
			return
		}
	}
}
