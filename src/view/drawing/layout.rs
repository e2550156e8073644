//! The places of the nodes of one scope in layers: a node is below everything that it depends on.
//!
//! The crate `rust-sugiyama` orders the nodes of a layer and aligns them. It places nodes only, so a long edge is given a
//! bend in each layer that it crosses, which the crate places like a node.

use std::collections::{HashMap, HashSet};

use rust_sugiyama::configure::{Config, CrossingMinimization, RankingType};
use rust_sugiyama::from_vertices_and_edges;
use serde::Serialize;

use super::scope_metrics::ScopeMetrics;

/// The number of vertices up to which the order of layers is improved by swaps, which takes quadratic time.
const MAX_SWAPPED_VERTICES: usize = 300;
/// The number of vertices up to which layers are ordered to avoid crossings. Larger graphs keep the order of the plan, since
/// ordering takes more than linear time, and no one sees so many crossings.
const MAX_ORDERED_VERTICES: usize = 50_000;
/// The stack of the thread that places vertices. The memory is reserved, but used only as far as paths are long.
const BASE_STACK_BYTES: usize = 2 << 20;
const STACK_BYTES_PER_VERTEX: usize = 4 << 10;

/// A point in a drawing, in pixels from its upper left corner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Point {
    /// The distance from the left edge.
    pub x: f64,
    /// The distance from the upper edge.
    pub y: f64,
}

/// The size of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct NodeSize {
    /// The width in pixels.
    pub(super) width: f64,
    /// The height in pixels.
    pub(super) height: f64,
}

/// An edge between two nodes, given by their indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LayoutEdge {
    /// The node that the edge starts at.
    pub(super) from: usize,
    /// The node that the edge ends at.
    pub(super) to: usize,
}

/// The places of all nodes and edges of a scope.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ScopeLayout {
    /// The total width in pixels.
    pub(super) width: f64,
    /// The total height in pixels.
    pub(super) height: f64,
    /// The upper left corner of each node.
    pub(super) corners: Vec<Point>,
    /// The points that each edge passes, from the lower side of its first node to the upper side of its last one.
    pub(super) paths: Vec<Vec<Point>>,
}

/// A node, or the place where an edge crosses a layer.
#[derive(Debug, Clone, Copy)]
struct Vertex {
    layer: usize,
    width: f64,
    component: usize,
    center: f64,
}

/// The vertices of a scope with the connections between adjacent layers.
struct LayeredGraph<'m> {
    metrics: &'m ScopeMetrics,
    vertices: Vec<Vertex>,
    segments: Vec<(u32, u32)>,
    /// The bends of each edge, from top to bottom.
    bends: Vec<Vec<usize>>,
}

/// Places nodes in layers. Equal input gives equal places, and no two nodes overlap.
///
/// Edges that are part of a cycle are drawn, but do not determine places.
pub(super) fn layout_scope(metrics: &ScopeMetrics, sizes: &[NodeSize], edges: &[LayoutEdge]) -> ScopeLayout {
    if sizes.is_empty() {
        return ScopeLayout::default();
    }
    let mut graph = LayeredGraph::new(metrics, sizes, edges);
    let components = graph.place_vertices();
    graph.separate();
    graph.finish(sizes, edges, components)
}

/// Returns the layer of each node: the length of the longest path to it. Nodes of a cycle are in the first layer.
pub(super) fn layers(count: usize, edges: &[LayoutEdge]) -> Vec<usize> {
    let mut layers = vec![0; count];
    let mut incoming = vec![0_usize; count];
    let mut successors = vec![Vec::new(); count];
    for edge in edges {
        incoming[edge.to] += 1;
        successors[edge.from].push(edge.to);
    }
    let mut ready: Vec<usize> = (0..count).filter(|node| incoming[*node] == 0).collect();
    let mut is_placed = vec![false; count];
    while let Some(node) = ready.pop() {
        is_placed[node] = true;
        for &next in &successors[node] {
            layers[next] = layers[next].max(layers[node] + 1);
            incoming[next] -= 1;
            if incoming[next] == 0 {
                ready.push(next);
            }
        }
    }
    layers.iter().zip(is_placed).map(|(layer, is_placed)| if is_placed { *layer } else { 0 }).collect()
}

impl<'m> LayeredGraph<'m> {
    fn new(metrics: &'m ScopeMetrics, sizes: &[NodeSize], edges: &[LayoutEdge]) -> Self {
        let layers = layers(sizes.len(), edges);
        let vertex = |layer, width| Vertex { layer, width, component: usize::MAX, center: 0.0 };
        let mut graph = Self {
            metrics,
            vertices: sizes.iter().zip(&layers).map(|(size, layer)| vertex(*layer, size.width)).collect(),
            segments: Vec::new(),
            bends: vec![Vec::new(); edges.len()],
        };
        // The edges of one node share their bends, so that they part only where they have to. The number of bends is
        // bounded, because the longest edges of a large graph would cross thousands of layers each.
        let mut budget = sizes.len() * 4 + 1_000;
        let mut shared: HashMap<(usize, usize), usize> = HashMap::new();
        let mut known = HashSet::new();
        let span = |edge: &LayoutEdge| layers[edge.to].saturating_sub(layers[edge.from]);
        let mut by_span: Vec<usize> = (0..edges.len()).collect();
        by_span.sort_by_key(|index| span(&edges[*index]));
        for index in by_span {
            let edge = &edges[index];
            let crossed = layers[edge.from] + 1..layers[edge.to];
            let new_bends = crossed.clone().filter(|layer| !shared.contains_key(&(edge.from, *layer))).count();
            if span(edge) == 0 || new_bends > budget {
                continue;
            }
            budget -= new_bends;
            let bends: Vec<usize> = crossed
                .map(|layer| {
                    *shared.entry((edge.from, layer)).or_insert_with(|| {
                        graph.vertices.push(vertex(layer, metrics.bend_width));
                        graph.vertices.len() - 1
                    })
                })
                .collect();
            let mut previous = edge.from;
            for next in bends.iter().copied().chain([edge.to]) {
                let segment = (previous as u32, next as u32);
                if known.insert(segment) {
                    graph.segments.push(segment);
                }
                previous = next;
            }
            graph.bends[index] = bends;
        }
        graph
    }

    /// Sets the component and the horizontal center of each vertex. Returns the number of components.
    fn place_vertices(&mut self) -> usize {
        let sizes: Vec<(u32, (f64, f64))> =
            self.vertices.iter().enumerate().map(|(index, vertex)| (index as u32, (vertex.width, 1.0))).collect();
        let config = Config {
            minimum_length: 1,
            vertex_spacing: self.metrics.node_gap,
            dummy_vertices: true,
            dummy_size: 1.0,
            ranking_type: RankingType::Up,
            c_minimization: CrossingMinimization::Barycenter,
            transpose: self.vertices.len() <= MAX_SWAPPED_VERTICES,
        };
        let place = || from_vertices_and_edges(&sizes, &self.segments, &config);
        // The crate recurses along paths. It also has code that panics; then the order of the plan has to do.
        let stack = BASE_STACK_BYTES + self.vertices.len() * STACK_BYTES_PER_VERTEX;
        let placed = std::thread::scope(|scope| {
            let has_few = self.vertices.len() <= MAX_ORDERED_VERTICES;
            let thread = has_few.then(|| std::thread::Builder::new().stack_size(stack).spawn_scoped(scope, place))?;
            thread.ok()?.join().ok()
        });
        let mut components = placed.unwrap_or_default();
        components.iter_mut().for_each(|(places, _, _)| places.sort_unstable_by_key(|(vertex, _)| *vertex));
        components.sort_by_key(|(places, _, _)| places.first().map(|(vertex, _)| *vertex));
        for (component, (places, _, _)) in components.iter().enumerate() {
            for (vertex, (x, _)) in places {
                if let Some(vertex) = self.vertices.get_mut(*vertex) {
                    vertex.component = component;
                    // Middles that are a half, but for inaccuracy, stay aligned.
                    vertex.center = if self.metrics.is_grid { (x + 0.25).floor() } else { *x };
                }
            }
        }
        let unplaced = self.vertices.iter_mut().filter(|vertex| vertex.component == usize::MAX);
        let mut has_unplaced = false;
        for (index, vertex) in unplaced.enumerate() {
            has_unplaced = true;
            vertex.component = components.len();
            vertex.center = index as f64;
        }
        components.len() + usize::from(has_unplaced)
    }

    /// Moves the vertices of each layer apart, from left to right, until none overlaps another.
    fn separate(&mut self) {
        let mut order: Vec<usize> = (0..self.vertices.len()).collect();
        order.sort_by(|a, b| {
            let (a, b) = (&self.vertices[*a], &self.vertices[*b]);
            (a.component, a.layer).cmp(&(b.component, b.layer)).then(a.center.total_cmp(&b.center))
        });
        for pair in order.windows(2) {
            let (before, after) = (self.vertices[pair[0]], self.vertices[pair[1]]);
            if (before.component, before.layer) == (after.component, after.layer) {
                let least = before.center + (before.width + after.width) / 2.0 + self.metrics.node_gap;
                self.vertices[pair[1]].center = after.center.max(least);
            }
        }
    }

    /// Arranges the components in rows, and returns the final places.
    fn finish(&self, sizes: &[NodeSize], edges: &[LayoutEdge], components: usize) -> ScopeLayout {
        let mut layer_heights: Vec<Vec<f64>> = vec![Vec::new(); components];
        let mut bounds = vec![(f64::INFINITY, f64::NEG_INFINITY); components];
        for (index, vertex) in self.vertices.iter().enumerate() {
            let heights = &mut layer_heights[vertex.component];
            if heights.len() <= vertex.layer {
                heights.resize(vertex.layer + 1, 0.0);
            }
            let height = sizes.get(index).map_or(0.0, |size| size.height);
            heights[vertex.layer] = heights[vertex.layer].max(height);
            let (start, end) = &mut bounds[vertex.component];
            *start = start.min(vertex.center - vertex.width / 2.0);
            *end = end.max(vertex.center + vertex.width / 2.0);
        }
        let size_of = |component: usize| NodeSize {
            width: bounds[component].1 - bounds[component].0,
            height: stacked_height(&layer_heights[component], self.metrics.layer_gap),
        };
        let extents: Vec<NodeSize> = (0..components).map(size_of).collect();
        let (origins, total) = arrange_in_rows(&extents, self.metrics);
        let tops: Vec<Vec<f64>> =
            layer_heights.iter().map(|heights| layer_tops(heights, self.metrics.layer_gap)).collect();

        let center = |vertex: &Vertex| vertex.center - bounds[vertex.component].0 + origins[vertex.component].x;
        let top = |vertex: &Vertex| tops[vertex.component][vertex.layer] + origins[vertex.component].y;
        let layer_height = |vertex: &Vertex| layer_heights[vertex.component][vertex.layer];
        let corners: Vec<Point> = sizes
            .iter()
            .zip(&self.vertices)
            .map(|(size, vertex)| Point {
                x: (center(vertex) - size.width / 2.0).round(),
                y: (top(vertex) + (layer_height(vertex) - size.height) / 2.0).round(),
            })
            .collect();
        let paths = edges.iter().zip(&self.bends).map(|(edge, bends)| {
            let middle = |node: usize, y: f64| Point { x: (corners[node].x + sizes[node].width / 2.0).round(), y };
            let mut path = vec![middle(edge.from, corners[edge.from].y + sizes[edge.from].height)];
            for vertex in bends.iter().map(|bend| &self.vertices[*bend]) {
                let (x, top) = (center(vertex).round(), top(vertex).round());
                path.extend([Point { x, y: top }, Point { x, y: (top + layer_height(vertex)).round() }]);
            }
            path.push(middle(edge.to, corners[edge.to].y));
            path
        });
        ScopeLayout { width: total.width.ceil(), height: total.height.ceil(), paths: paths.collect(), corners }
    }
}

fn stacked_height(layers: &[f64], gap: f64) -> f64 {
    layers.iter().sum::<f64>() + gap * layers.len().saturating_sub(1) as f64
}

fn layer_tops(heights: &[f64], gap: f64) -> Vec<f64> {
    let mut top = 0.0;
    let tops = heights.iter().map(|height| {
        let this = top;
        top += height + gap;
        this
    });
    tops.collect()
}

/// Arranges boxes in rows of similar width, in their order. Returns their upper left corners, and the size of the whole.
fn arrange_in_rows(boxes: &[NodeSize], metrics: &ScopeMetrics) -> (Vec<Point>, NodeSize) {
    let ScopeMetrics { node_gap, layer_gap, .. } = *metrics;
    let area: f64 = boxes.iter().map(|size| (size.width + node_gap) * (size.height + layer_gap)).sum();
    let max_width = boxes.iter().map(|size| size.width).fold(0.0, f64::max);
    let row_width = (area * metrics.aspect_ratio).sqrt().min(metrics.max_row_width).max(max_width);
    let (mut corner, mut row_height, mut total) = (Point::default(), 0.0_f64, NodeSize::default());
    let corners = boxes.iter().map(|size| {
        if corner.x > 0.0 && corner.x + size.width > row_width {
            corner = Point { x: 0.0, y: corner.y + row_height + layer_gap };
            row_height = 0.0;
        }
        let place = corner;
        corner.x += size.width + node_gap;
        row_height = row_height.max(size.height);
        total.width = total.width.max(place.x + size.width);
        total.height = total.height.max(place.y + size.height);
        place
    });
    (corners.collect(), total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layout(sizes: &[NodeSize], edges: &[LayoutEdge]) -> ScopeLayout {
        layout_scope(&ScopeMetrics::PIXELS, sizes, edges)
    }

    fn edge(from: usize, to: usize) -> LayoutEdge {
        LayoutEdge { from, to }
    }

    fn uniform(count: usize) -> Vec<NodeSize> {
        vec![NodeSize { width: 100.0, height: 40.0 }; count]
    }

    fn overlap(layout: &ScopeLayout, sizes: &[NodeSize]) -> Option<(usize, usize)> {
        let mut order: Vec<usize> = (0..sizes.len()).collect();
        order.sort_by(|a, b| layout.corners[*a].x.total_cmp(&layout.corners[*b].x));
        for (position, &a) in order.iter().enumerate() {
            for &b in &order[position + 1..] {
                let (one, other) = (layout.corners[a], layout.corners[b]);
                if other.x >= one.x + sizes[a].width {
                    break;
                }
                if one.y < other.y + sizes[b].height && other.y < one.y + sizes[a].height {
                    return Some((a, b));
                }
            }
        }
        None
    }

    #[test]
    fn dependents_are_below_their_dependencies() {
        let edges = [edge(0, 1), edge(0, 2), edge(1, 3), edge(2, 3), edge(0, 3)];
        let layout = layout(&uniform(4), &edges);
        let tops: Vec<f64> = layout.corners.iter().map(|corner| corner.y).collect();
        assert_eq!(tops, [0.0, 80.0, 80.0, 160.0]);
        assert_eq!((layout.corners[1].y, layout.height), (layout.corners[2].y, 200.0));
        // The long edge passes the middle layer between or beside the nodes there.
        let bend = layout.paths[4][1].x;
        let is_inside = |node: usize| bend > layout.corners[node].x && bend < layout.corners[node].x + 100.0;
        assert!(!is_inside(1) && !is_inside(2), "{layout:?}");
    }

    #[test]
    fn unconnected_nodes_are_arranged_in_rows() {
        let layout = layout(&uniform(12), &[]);
        assert!(layout.width < 700.0 && layout.height < 400.0, "{layout:?}");
        assert_eq!(overlap(&layout, &uniform(12)), None);
    }

    #[test]
    fn cycles_and_loops_are_drawn() {
        let layout = layout(&uniform(3), &[edge(0, 1), edge(1, 0), edge(2, 2)]);
        assert_eq!(overlap(&layout, &uniform(3)), None);
        assert_eq!(layout.paths.len(), 3);
    }

    #[test]
    fn empty_scope_has_no_size() {
        assert_eq!(layout(&[], &[]), ScopeLayout::default());
    }

    #[test]
    fn graphs_beyond_the_limit_keep_the_order_of_the_plan() {
        let count = MAX_ORDERED_VERTICES + 2;
        let edges: Vec<_> = (2..count).map(|node| edge(node % 2, node)).collect();
        let sizes = vec![NodeSize { width: 10.0, height: 10.0 }; count];
        let layout = layout(&sizes, &edges);
        assert!(layout.corners[2..].windows(2).all(|pair| pair[0].x < pair[1].x && pair[0].y == pair[1].y));
    }

    #[test]
    fn long_edges_of_a_long_chain_have_bounded_bends() {
        let count = 2_000;
        let edges: Vec<_> = (1..count).flat_map(|node| [edge(node - 1, node), edge(node - 1, count - 1)]).collect();
        let layout = layout(&uniform(count), &edges);
        assert_eq!(overlap(&layout, &uniform(count)), None);
        assert!(layout.paths.iter().map(Vec::len).sum::<usize>() < 50 * count);
    }

    fn graphs() -> impl Strategy<Value = (Vec<NodeSize>, Vec<LayoutEdge>)> {
        let size = (1_u32..40, 1_u32..20)
            .prop_map(|(width, height)| NodeSize { width: f64::from(width * 10), height: f64::from(height * 5) });
        proptest::collection::vec(size, 1..40).prop_flat_map(|sizes| {
            let count = sizes.len();
            let edges = proptest::collection::vec((0..count, 0..count), 0..80).prop_map(|pairs| {
                let downward = pairs.into_iter().filter(|(a, b)| a != b).map(|(a, b)| edge(a.min(b), a.max(b)));
                downward.collect::<Vec<_>>()
            });
            (Just(sizes), edges)
        })
    }

    proptest! {
        #[test]
        fn equal_input_gives_equal_places_without_overlap((sizes, edges) in graphs()) {
            let layout = layout(&sizes, &edges);
            prop_assert_eq!(&layout, &layout_scope(&ScopeMetrics::PIXELS, &sizes, &edges));
            prop_assert_eq!(overlap(&layout, &sizes), None);
            for (size, corner) in sizes.iter().zip(&layout.corners) {
                prop_assert!(corner.x >= 0.0 && corner.x + size.width <= layout.width + 1.0);
                prop_assert!(corner.y >= 0.0 && corner.y + size.height <= layout.height + 1.0);
            }
            for (edge, path) in edges.iter().zip(&layout.paths) {
                prop_assert!(path.first().expect("a start").y < path.last().expect("an end").y, "{edge:?}");
            }
        }
    }
}
