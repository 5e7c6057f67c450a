// Command endpointslices runs Kubernetes' own EndpointSlice controller, which clusters have in their controller manager,
// against the API server of a kubeconfig: endpointslices KUBECONFIG.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/kubernetes/pkg/controller/endpointslice"
)

const (
	endpointsPerSlice = 100 // as the controller manager's --max-endpoints-per-slice
	batchPeriod       = 0 * time.Second
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	all := informers.NewSharedInformerFactory(client, 0)
	controller := endpointslice.NewController(ctx, all.Core().V1().Pods(), all.Core().V1().Services(), all.Core().V1().Nodes(),
		all.Discovery().V1().EndpointSlices(), endpointsPerSlice, client, batchPeriod)
	all.Start(ctx.Done())
	controller.Run(ctx, 1)
	return nil
}
