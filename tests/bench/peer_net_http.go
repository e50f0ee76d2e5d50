// SPDX-License-Identifier: MIT
//
// The same fetches by Go's net/http: one Transport, a pool of goroutines, the whole body of each
// read.
//
//	peer_net_http FILE-OF-URLS CONCURRENCY PER-HOST WARMUP
//
// GOMAXPROCS is the environment's. Prints one line of JSON.
package main

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type counts struct {
	ok, failed, bytes int64
}

func fetchOne(client *http.Client, url string, c *counts) {
	reply, err := client.Get(url)
	if err != nil {
		atomic.AddInt64(&c.failed, 1)
		return
	}
	n, err := io.Copy(io.Discard, reply.Body)
	reply.Body.Close()
	if err != nil || reply.StatusCode != 200 {
		atomic.AddInt64(&c.failed, 1)
		return
	}
	atomic.AddInt64(&c.ok, 1)
	atomic.AddInt64(&c.bytes, n)
}

func fetch(client *http.Client, urls []string, concurrency int) *counts {
	var next int64 = -1
	var wait sync.WaitGroup
	c := &counts{}
	for i := 0; i < concurrency; i++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for {
				at := atomic.AddInt64(&next, 1)
				if at >= int64(len(urls)) {
					return
				}
				fetchOne(client, urls[at], c)
			}
		}()
	}
	wait.Wait()
	return c
}

func cpuUs() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		log.Fatal(err)
	}
	us := func(t syscall.Timeval) float64 { return float64(t.Sec)*1e6 + float64(t.Usec) }
	return us(u.Utime) + us(u.Stime)
}

// Not Maxrss, which has what our parent had when it forked.
func peakKb() (kb int64) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		log.Fatal(err)
	}
	if at := strings.Index(string(status), "VmHWM:"); at >= 0 {
		fmt.Sscan(string(status[at+6:]), &kb)
	}
	return kb
}

func readUrls(path string) (urls []string) {
	file, err := os.Open(path)
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		urls = append(urls, lines.Text())
	}
	return urls
}

func number(at int) int {
	n, err := strconv.Atoi(os.Args[at])
	if err != nil {
		log.Fatal(err)
	}
	return n
}

func main() {
	if len(os.Args) != 5 {
		log.Fatal("usage: peer_net_http FILE-OF-URLS CONCURRENCY PER-HOST WARMUP")
	}
	urls, concurrency, perHost, warmup := readUrls(os.Args[1]), number(2), number(3), number(4)
	client := &http.Client{Transport: &http.Transport{
		MaxIdleConns:        concurrency,
		MaxIdleConnsPerHost: perHost,
		MaxConnsPerHost:     perHost,
		DisableCompression:  true,
	}}
	fetch(client, urls[:warmup], concurrency)
	cpu := cpuUs()
	start := time.Now()
	c := fetch(client, urls, concurrency)
	wall := time.Since(start).Seconds()
	cpu = cpuUs() - cpu
	fmt.Printf("{\"ok\": %d, \"failed\": %d, \"bytes\": %d, \"wall_s\": %.6f, \"cpu_us\": %.1f, "+
		"\"peak_rss_kb\": %d}\n", c.ok, c.failed, c.bytes, wall, cpu, peakKb())
}
