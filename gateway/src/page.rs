//! The pages that connections come from: kept, so that a new configuration can be held against connections that are
//! open. Free of IO.

use std::collections::HashMap;

use slab::Slab;
use wsgateway_crds::value::OriginPattern;

/// The longest `Origin` and `Host`, in bytes: a scheme, the 253 of a host name and a port have room. What is kept of a
/// client must not be as long as it likes.
pub const PAGE_BYTES_MAX: usize = 320;

/// A page's origin, and the host that it asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Page {
    /// The `Origin` header.
    pub origin: Box<str>,
    /// The `Host` header.
    pub host: Option<Box<str>>,
}

impl Page {
    /// Whether one of the patterns allows it.
    pub fn is_allowed(&self, patterns: &[OriginPattern]) -> bool {
        let (origin, host) = (Some(&*self.origin), self.host.as_deref());
        patterns.iter().any(|pattern| pattern.allows(origin, host))
    }
}

/// Which of the [`Pages`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageId(u32);

/// Pages with connections, each once however many those are.
#[derive(Debug, Default)]
pub struct Pages {
    open: Slab<(Page, usize)>,
    ids: HashMap<Page, PageId>,
}

impl Pages {
    /// A connection of this page opens.
    pub fn enter(&mut self, page: Page) -> PageId {
        let open = &mut self.open;
        let id = *self
            .ids
            .entry(page)
            .or_insert_with_key(|page| PageId(open.insert((page.clone(), 0)) as u32));
        if let Some((_, connections)) = self.open.get_mut(id.0 as usize) {
            *connections += 1;
        }
        id
    }

    /// A connection of this page is gone.
    pub fn leave(&mut self, id: PageId) {
        let Some((_, connections)) = self.open.get_mut(id.0 as usize) else {
            return;
        };
        *connections -= 1;
        if *connections == 0 {
            let (page, _) = self.open.remove(id.0 as usize);
            self.ids.remove(&page);
        }
    }

    /// Those that none of the patterns allows.
    pub fn forbidden(&self, patterns: &[OriginPattern]) -> Vec<PageId> {
        let forbidden = self
            .open
            .iter()
            .filter(|(_, (page, _))| !page.is_allowed(patterns));
        forbidden.map(|(id, _)| PageId(id as u32)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_kept_once_and_for_as_long_as_it_has_connections() {
        let mut pages = Pages::default();
        let page = |origin: &str| Page {
            origin: origin.into(),
            host: Some("ws.example.com".into()),
        };
        let a = pages.enter(page("https://a.example.com"));
        assert_eq!(pages.enter(page("https://a.example.com")), a);
        let b = pages.enter(page("https://b.example.com"));
        let own = pages.enter(page("https://ws.example.com"));
        let forbidden = |pages: &Pages, patterns: &[&str]| {
            let patterns: Vec<_> = patterns.iter().map(|text| text.parse().unwrap()).collect();
            pages.forbidden(&patterns)
        };
        assert_eq!(forbidden(&pages, &["*"]), []);
        assert_eq!(forbidden(&pages, &["SameHost"]), [a, b]);
        assert_eq!(
            forbidden(&pages, &["https://a.example.com", "SameHost"]),
            [b]
        );
        pages.leave(a);
        assert_eq!(forbidden(&pages, &["SameHost"]), [a, b]);
        for id in [a, b, own] {
            pages.leave(id);
        }
        assert!(pages.open.is_empty() && pages.ids.is_empty());
    }
}
