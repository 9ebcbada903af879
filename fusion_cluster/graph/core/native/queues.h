/* The order of eviction: three queues through the nodes, each with a SIEVE hand (twin: pure/registry.py). */

static void
queue_push(Registry *registry, Node *node, int which)
{
    Queue *queue = &registry->queues[which];
    node->older = queue->newest;
    node->newer = NULL;
    if (queue->newest == NULL)
        queue->oldest = node;
    else
        queue->newest->newer = node;
    queue->newest = node;
    node->queue = (uint8_t)which;
    queue->size++;
}

static void
queue_remove(Registry *registry, Node *node)
{
    Queue *queue = &registry->queues[node->queue];
    if (queue->hand == node)
        queue->hand = node->newer;
    if (node->older == NULL)
        queue->oldest = node->newer;
    else
        node->older->newer = node->newer;
    if (node->newer == NULL)
        queue->newest = node->older;
    else
        node->newer->older = node->older;
    node->older = node->newer = NULL;
    node->queue = NO_QUEUE;
    queue->size--;
}

/* Move the hand to the next node that was not hit since it last passed (SIEVE); NULL when the queue is empty. */
static Node *
queue_next_unvisited(Queue *queue)
{
    for (;;) {
        Node *node = queue->hand != NULL ? queue->hand : queue->oldest;
        if (node == NULL)
            return NULL;
        if (!node->was_hit) {
            queue->hand = node;
            return node;
        }
        node->was_hit = 0;
        queue->hand = node->newer;
    }
}

static int
is_protected(Node *node)
{
    return node->dependents != NULL || node->is_retained ||
           (node->extra != NULL && (node->extra->observers != NULL || node->extra->computation != NULL));
}

static void
loosened(Node *node)
{
    if (node->queue != NO_QUEUE && node->queue != EVICTABLE && !is_protected(node)) {
        Registry *registry = node->table->registry;
        queue_remove(registry, node);
        queue_push(registry, node, EVICTABLE);
    }
}
